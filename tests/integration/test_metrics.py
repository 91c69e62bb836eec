"""The metrics of several workers with several children, counted against what was sent."""

import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from shared.manifest import Manifest
from shared.model_store import ModelStore
from tests.integration.conftest import NewStack
from tests.support.exposition import Scrape
from tests.support.processes import wait_for
from tests.support.puppet import PUPPET_FOLDER, Act
from tests.support.requirements import require
from tests.support.stack import Stack

LOW = {"value": -1, "act": Act.ANSWER}
HIGH = {"value": 1, "act": Act.ANSWER}
RAISING = {"value": 1, "act": Act.RAISE}


def workers(stack: Stack) -> Scrape:
    return Scrape(*(f"http://127.0.0.1:{port}/metrics" for port in stack.metrics_ports))


def gateway(stack: Stack) -> Scrape:
    return Scrape(f"{stack.url}/metrics")


@pytest.fixture
def stack(new_stack: NewStack, puppet_models: Path, tmp_path: Path) -> Iterator[Stack]:
    stack = new_stack(puppet_models, workers=2, DEFAULT_MODEL="puppet", **{PUPPET_FOLDER: str(tmp_path)}).start()
    wait_for("both workers", lambda: gateway(stack).total("inference_workers") == 2)
    yield stack


@pytest.fixture
def puppet(puppet_models: Path) -> Manifest:
    return ModelStore(puppet_models).manifest("puppet")


def send(stack: Stack) -> None:
    """200 single rows (of which 20 raise), 10 requests of 50 rows, 100 jobs of one row."""

    def call(i: int) -> int:
        return stack.predict(RAISING if i % 10 == 0 else LOW if i % 2 else HIGH).status_code

    with ThreadPoolExecutor(32) as pool:
        assert sorted(pool.map(call, range(200))) == [200] * 180 + [500] * 20
        many = [pool.submit(stack.predict, [HIGH] * 50) for _ in range(10)]
        jobs = list(pool.map(lambda _: stack.submit(LOW), range(100)))
        assert all(future.result().status_code == 200 for future in many)
    for job in jobs:
        assert stack.outcome(job)["status"] == "succeeded"


def test_sums_are_exact(stack: Stack, puppet: Manifest) -> None:
    send(stack)
    seen = workers(stack)
    rows, failed = 200 + 500 + 100, 20
    model = {"model": "puppet", "version": puppet.version}
    assert seen.total("inference_predictions_total", outcome="ok", **model) == rows - failed
    assert seen.total("inference_predictions_total", outcome="error", **model) == failed
    assert seen.total("inference_errors_total", **model) == failed
    assert seen.total("inference_errors_total", code="prediction_failed", **model) == failed
    assert seen.total("inference_output_total", output="low", **model) == 100 + 100
    assert seen.total("inference_output_total", output="high", **model) == 80 + 500
    assert seen.total("inference_batch_rows_sum", model="puppet") == rows
    for feature in ("value", "act"):
        assert seen.total("inference_feature_value_count", feature=feature, **model) == rows
        assert seen.total("inference_feature_value_bucket", feature=feature, le="+Inf") == rows
        assert seen.total("inference_feature_bin_total", feature=feature, **model) == rows
    assert seen.total("inference_feature_value_sum", feature="value") == 600 - 200
    assert seen.total("inference_queue_wait_seconds_count", lane="interactive") == 210
    assert seen.total("inference_queue_wait_seconds_count", lane="bulk") == 100
    assert seen.total("inference_compute_seconds_count", **model) == seen.total("inference_batch_rows_count")
    assert seen.total("inference_batches_in_progress") == 0
    assert seen.total("inference_model_info", **model) == 2, "one per worker, not one per child"

    told = gateway(stack)
    assert told.total("inference_requests_total", model="puppet", lane="interactive", outcome="ok") == 190
    assert told.total("inference_requests_total", model="puppet", lane="interactive", outcome="failed") == 20
    assert told.total("inference_requests_total", model="puppet", lane="bulk", outcome="ok") == 100
    assert told.total("inference_request_duration_seconds_count", lane="interactive") == 190
    assert told.total("inference_http_requests_total", route="/predict", status="200") == 190
    assert told.total("inference_http_requests_total", route="/jobs", method="POST") == 100
    assert told.total("inference_jobs_accepted_total") == 100
    assert told.total("inference_jobs_ended_total", outcome="succeeded") == 100
    assert told.total("inference_jobs_open") == 0
    assert told.total("inference_requests_in_progress") == 0
    assert told.total("inference_worker_slots") == 4
    assert told.total("inference_queue_depth") == 0


def test_totals_survive_killed_and_replaced_children(stack: Stack) -> None:
    def rows() -> float:
        return workers(stack).total("inference_predictions_total", outcome="ok")

    for round_ in range(1, 4):
        assert stack.predict([HIGH] * 10).status_code == 200
        assert stack.predict({"value": 1, "act": Act.DIE}).status_code == 503
        wait_for("new children", lambda: all(len(worker.children()) == 2 for worker in stack.workers))
        wait_for("a child that answers", lambda: stack.predict(HIGH).status_code == 200)
        assert rows() >= 11 * round_
    seen = workers(stack)
    assert seen.total("inference_errors_total", code="worker_lost") == 3
    wait_for("no batch in progress", lambda: workers(stack).total("inference_batches_in_progress") == 0)
    # Slots, not process ids: files do not pile up.
    files = [path.name for path in stack.folder.glob("counts*/*.db")]
    assert {name.rsplit("_", 1)[-1].removesuffix(".db").rstrip("0123456789") for name in files} == {"slot", "main"}


def test_the_canary_is_no_traffic(stack: Stack) -> None:
    stack.wait_ready()
    assert workers(stack).total("inference_predictions_total") == 0
    assert workers(stack).total("inference_queue_wait_seconds_count") == 0


def test_unknown_paths_make_one_series(stack: Stack) -> None:
    for i in range(5):
        stack.status(f"/nothing/{i}")
        stack.status(f"/jobs/unknown-{i}")
    routes = gateway(stack).label_values("inference_http_requests_total", "route")
    assert {route for route in routes if "nothing" in route or "unknown" in route} == set()
    assert {"__unmatched__", "/jobs/{job_id}"} <= routes


def test_bad_input_is_counted_as_such(stack: Stack) -> None:
    assert stack.predict({"value": True, "act": 0}).status_code == 422
    assert stack.http.post("/jobs", content="{}").status_code == 415
    told = gateway(stack)
    assert told.total("inference_requests_total", lane="interactive", outcome="invalid") == 1
    assert told.total("inference_requests_total", lane="bulk", outcome="invalid") == 1


def test_promtool_finds_nothing_to_say(stack: Stack) -> None:
    promtool = shutil.which("promtool")
    require(promtool is not None, "promtool is not installed (Debian: prometheus)")
    send(stack)
    for text in (*gateway(stack).text, *workers(stack).text):
        checked = subprocess.run(
            [str(promtool), "check", "metrics"], input=text, capture_output=True, text=True, check=False
        )
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_every_metric_of_the_dashboards_and_rules_is_exported(stack: Stack) -> None:
    queries = pytest.importorskip("tests.monitoring.queries")
    send(stack)
    exported = gateway(stack).names | workers(stack).names
    # Rows of a shadow are there when a trial is.
    read = queries.dashboard_metric_names() | queries.rule_metric_names()
    named = {name for name in read if name.startswith("inference_")}
    named -= {"inference_shadow_rows_total"}
    assert named
    assert named <= exported
