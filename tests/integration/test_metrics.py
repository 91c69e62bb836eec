"""The metrics of several workers with several children, compared with the requests that were sent."""

import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from tests.integration.conftest import NewStack
from tests.support.exposition import Scrape
from tests.support.processes import wait_for
from tests.support.promtool import promtool
from tests.support.puppet import Act
from tests.support.stack import Stack

LOW = {"value": -1, "act": Act.ANSWER}
HIGH = {"value": 1, "act": Act.ANSWER}
RAISING = {"value": 1, "act": Act.RAISE}

PRINTED_MS = 0.0005
"""Milliseconds by which rounding to the printed digits may change a time; sums of floats differ by less."""


def workers(stack: Stack) -> Scrape:
    return Scrape(*(f"http://127.0.0.1:{port}/metrics" for port in stack.metrics_ports))


def gateway(stack: Stack) -> Scrape:
    return Scrape(f"{stack.url}/metrics")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, puppet_models: Path) -> Iterator[Stack]:
    """Start a stack for the tests of this file that break nothing: they compare growth."""
    folder = tmp_path_factory.mktemp("counted")
    options = {"BATCH_ROWS_MAX": "64", "PREDICT_DEADLINE_SECONDS": "30"}
    stack = Stack(folder, puppet_models, workers=2, DEFAULT_MODEL="puppet", **options)  # type: ignore[arg-type]
    try:
        stack.start()
        wait_for("both workers", lambda: gateway(stack).total("inference_workers") == 2)
        yield stack
    finally:
        stack.close()


@pytest.fixture
def puppet(puppet_models: Path) -> Manifest:
    return ModelStore(puppet_models).manifest("puppet")


def send(stack: Stack) -> None:
    """Send 200 single rows (of which 20 raise), 10 requests of 50 rows, and 100 jobs of one row."""

    def call(i: int) -> int:
        return stack.predict(RAISING if i % 10 == 0 else LOW if i % 2 else HIGH).status_code

    with ThreadPoolExecutor(32) as pool:
        assert sorted(pool.map(call, range(200))) == [200] * 180 + [422] * 20
        many = [pool.submit(stack.predict, [HIGH] * 50) for _ in range(10)]
        jobs = list(pool.map(lambda _: stack.submit(LOW), range(100)))
        assert [answer.text for answer in map(Future.result, many) if answer.status_code != 200] == []
    for job in jobs:
        assert stack.outcome(job)["status"] == "succeeded"


ROWS, FAILED_ROWS = 200 + 500 + 100, 20


def assert_exact(stack: Stack, puppet: Manifest, before: Scrape, gateway_before: Scrape) -> None:
    """Check that the counts equal what `send` sent."""
    model = {"model": "puppet", "version": puppet.version}
    # Rows are counted after their answers are sent.
    wait_for("all rows", lambda: workers(stack).grown(before, "inference_predictions_total", **model) >= ROWS)
    seen, from_gateway = workers(stack), gateway(stack)
    new, new_from_gateway = partial(seen.grown, before), partial(from_gateway.grown, gateway_before)
    assert new("inference_predictions_total", outcome="ok", **model) == ROWS - FAILED_ROWS
    assert new("inference_predictions_total", outcome="error", **model) == FAILED_ROWS
    assert new("inference_errors_total", **model) == FAILED_ROWS
    assert new("inference_errors_total", code="row_rejected", **model) == FAILED_ROWS
    assert new("inference_output_total", output="low", **model) == 100 + 100
    assert new("inference_output_total", output="high", **model) == 80 + 500
    assert new("inference_batch_rows_sum", model="puppet") == ROWS
    for feature in ("value", "act"):
        assert new("inference_feature_value_count", feature=feature, **model) == ROWS
        assert new("inference_feature_value_bucket", feature=feature, le="+Inf") == ROWS
        assert new("inference_feature_bin_total", feature=feature, **model) == ROWS
    assert new("inference_feature_value_sum", feature="value") == 600 - 200
    assert new("inference_queue_wait_seconds_count", lane="interactive") == 210
    assert new("inference_queue_wait_seconds_count", lane="bulk") == 100
    assert new("inference_job_duration_seconds_count", model="puppet") == 100
    assert new("inference_compute_seconds_count", **model) == new("inference_batch_rows_count")
    assert seen.total("inference_batches_in_progress") == 0

    assert new_from_gateway("inference_requests_total", model="puppet", lane="interactive", outcome="ok") == 190
    assert new_from_gateway("inference_requests_total", model="puppet", lane="interactive", outcome="invalid") == 20
    assert new_from_gateway("inference_rejections_total", reason="row_rejected") == 20
    assert new_from_gateway("inference_requests_total", model="puppet", lane="bulk", outcome="ok") == 100
    assert new_from_gateway("inference_request_duration_seconds_count", lane="interactive") == 190
    assert new_from_gateway("inference_http_requests_total", route="/predict", status="200") == 190
    assert new_from_gateway("inference_http_requests_total", route="/jobs", method="POST") == 100
    assert new_from_gateway("inference_jobs_accepted_total") == 100
    assert new_from_gateway("inference_jobs_ended_total", outcome="succeeded") == 100
    assert from_gateway.total("inference_jobs_open") == 0
    assert from_gateway.total("inference_requests_in_progress") == 0
    assert from_gateway.total("inference_queue_depth") == 0


def test_sums_are_exact(stack: Stack, puppet: Manifest) -> None:
    before, gateway_before = workers(stack), gateway(stack)
    send(stack)

    assert_exact(stack, puppet, before, gateway_before)
    assert workers(stack).total("inference_model_info", version=puppet.version) == 2, "one per worker, not per child"
    assert gateway(stack).total("inference_worker_slots") == 4


def test_sums_are_exact_over_recycled_children_and_several_gateway_processes(
    new_stack: NewStack, puppet_models: Path, puppet: Manifest
) -> None:
    options = {"DEFAULT_MODEL": "puppet", "GATEWAY_PROCESSES": "2", "WORKER_MAX_TASKS_PER_CHILD": "10"}
    stack = new_stack(puppet_models, workers=2, PREDICT_DEADLINE_SECONDS="60", **options).start()
    stack.wait_for_slots(4)
    before, gateway_before = workers(stack), gateway(stack)
    for name in ("inference_predictions_total", "inference_queue_wait_seconds_count"):
        assert before.total(name) == 0, "the row of the readiness probe does not count"
    send(stack)

    assert_exact(stack, puppet, before, gateway_before)
    started = workers(stack).grown(before, "inference_worker_children_started_total")
    assert started >= 4, "children were recycled"


def test_an_autoscaler_is_told_what_is_busy_and_what_waits(stack: Stack) -> None:
    def signal() -> dict[str, Any]:
        found: list[dict[str, Any]] = stack.http.get("/scaling", params={"models": ""}).json()["worker_groups"]
        assert len(found) == 1
        return found[0]

    def loaded() -> bool:
        found = signal()
        return bool(found["busy_slots"] and found["waiting"]["interactive"]["count"])

    assert (signal()["workers"], signal()["slots_per_worker"]) == (2, 2)
    with ThreadPoolExecutor(12) as pool:
        asked = [pool.submit(stack.predict, {"value": 1, "act": Act.SLEEP}) for _ in range(12)]
        wait_for("slots are busy and rows wait", loaded)
        assert [each.result().status_code for each in asked] == [200] * 12
    found = signal()
    assert found["wanted_workers"] == (found["busy_slots"] + found["waiting_slots"]) / 2
    wait_for("nothing waits", lambda: signal()["waiting_slots"] == 0)
    for models in ("none,of,them", ["none", "of", "them"], ["", "none"]):
        assert stack.http.get("/scaling", params={"models": models}).json() == {"worker_groups": []}


def test_totals_survive_killed_children(new_stack: NewStack, puppet_models: Path) -> None:
    stack = new_stack(puppet_models, workers=2, DEFAULT_MODEL="puppet").start()
    stack.wait_for_slots(4)
    answered = 0

    def answers() -> bool:
        nonlocal answered
        ok = stack.predict(HIGH).status_code == 200
        answered += ok
        return ok

    def started(children: int) -> bool:
        return workers(stack).total("inference_worker_children_started_total") == children

    for round_ in range(1, 4):
        assert stack.predict([HIGH] * 10).status_code == 200
        answered += 10
        assert stack.predict({"value": 1, "act": Act.DIE}).status_code == 503
        wait_for("a new child", partial(started, 4 + round_))
        assert workers(stack).total("inference_worker_pool_processes") == 4
        wait_for("a child that answers", answers)

    def all_counted() -> Scrape | None:
        seen = workers(stack)
        return seen if seen.total("inference_predictions_total", outcome="ok") == answered else None

    seen = wait_for("all rows", all_counted)
    assert seen.total("inference_errors_total", code="worker_lost") == 3
    wait_for("no batch in progress", lambda: workers(stack).total("inference_batches_in_progress") == 0)
    # Files are named by position in the pool and not by process id, so that they do not pile up.
    files = [path.name for path in stack.folder.glob("counts*/*.db")]
    assert {name.rsplit("_", 1)[-1].removesuffix(".db").rstrip("0123456789") for name in files} == {"slot", "main"}


def server_timing(header: str) -> dict[str, float]:
    return {f"{name}_ms": float(value) for name, value in re.findall(r"(\w+);dur=([\d.e-]+)", header)}


@pytest.mark.parametrize("rows", [1, 200], ids=["one row", "chunks"])
def test_an_answer_its_header_and_the_histograms_agree(stack: Stack, rows: int) -> None:
    before, gateway_before = workers(stack), gateway(stack)

    answer = stack.predict([HIGH] * rows)

    timing: dict[str, float] = answer.json()["timing"]
    assert server_timing(answer.headers["server-timing"]) == timing
    seen = wait_for("its counts", partial(counted, stack, before, "inference_batch_rows_sum", rows))
    from_gateway = gateway(stack)
    rest_ms = timing["total_ms"] - timing["queue_ms"] - timing["compute_ms"]
    assert rest_ms >= 0
    queue_ms = 1000 * seen.grown(before, "inference_queue_wait_seconds_sum", lane="interactive")
    compute_ms = 1000 * seen.grown(before, "inference_compute_seconds_sum")
    total_ms = 1000 * from_gateway.grown(gateway_before, "inference_request_duration_seconds_sum", lane="interactive")
    assert total_ms == pytest.approx(timing["total_ms"], abs=PRINTED_MS)
    # Gateway and worker of a busy machine may read the broker's clock differently; then the answer has what is left.
    assert queue_ms == pytest.approx(timing["queue_ms"], abs=PRINTED_MS) or queue_ms > timing["queue_ms"] > rest_ms
    if rows == 1:
        assert compute_ms == pytest.approx(timing["compute_ms"], abs=PRINTED_MS)
    # Batches of one request may be computed at the same time.
    assert 0 < timing["compute_ms"] <= compute_ms + PRINTED_MS


def test_a_job_and_the_histograms_agree(stack: Stack) -> None:
    before = workers(stack)

    timing = stack.outcome(stack.submit(HIGH))["timing"]

    seen = wait_for("its counts", partial(counted, stack, before, "inference_job_duration_seconds_count", 1))
    sums = {
        "queue_ms": seen.grown(before, "inference_queue_wait_seconds_sum"),
        "compute_ms": seen.grown(before, "inference_compute_seconds_sum"),
        "total_ms": seen.grown(before, "inference_job_duration_seconds_sum"),
    }
    assert {part: seconds * 1000 for part, seconds in sums.items()} == pytest.approx(timing, abs=PRINTED_MS)


def counted(stack: Stack, before: Scrape, name: str, expected: float) -> Any:
    seen = workers(stack)
    return seen if seen.grown(before, name) == expected else None


def test_workers_export_their_children_and_gateways_their_broker(stack: Stack) -> None:
    seen, from_gateway = workers(stack), gateway(stack)

    assert seen.total("inference_worker_pool_processes") == 4
    assert seen.total("inference_worker_children_started_total") == 4
    assert 20e6 < seen.total("inference_worker_children_memory_bytes") < 2e9
    assert from_gateway.total("inference_broker_memory_bytes") > 100_000
    assert from_gateway.total("inference_broker_memory_limit_bytes") == 0
    assert from_gateway.total("inference_queue_estimated_wait_seconds") == 0
    for scrape, n in ((seen, 2), (from_gateway, 1)):
        assert scrape.total("inference_build_info") == n
        assert scrape.total("process_resident_memory_bytes") > n * 20e6
        assert scrape.total("process_start_time_seconds") > n * 1e9


def test_the_wait_is_estimated_while_jobs_wait(stack: Stack) -> None:
    def wait_seconds() -> float:
        return gateway(stack).total("inference_queue_estimated_wait_seconds", lane="bulk")

    jobs = [stack.submit({"value": 0.5, "act": Act.SLEEP}) for _ in range(20)]

    assert wait_for("an estimate", wait_seconds) < 60
    for job in jobs:
        assert stack.outcome(job)["status"] == "succeeded"
    wait_for("nothing waits", lambda: wait_seconds() == 0)


def test_unknown_paths_make_one_series(stack: Stack) -> None:
    for i in range(5):
        stack.status(f"/nothing/{i}")
        stack.status(f"/jobs/unknown-{i}")
    routes = gateway(stack).label_values("inference_http_requests_total", "route")
    assert {route for route in routes if "nothing" in route or "unknown" in route} == set()
    assert {"__unmatched__", "/jobs/{job_id}"} <= routes


def test_bad_input_is_counted_as_such(stack: Stack) -> None:
    before = gateway(stack)
    assert stack.predict({"value": True, "act": 0}).status_code == 422
    assert stack.http.post("/jobs", content="{}").status_code == 415
    from_gateway = gateway(stack)
    assert from_gateway.grown(before, "inference_requests_total", lane="interactive", outcome="invalid") == 1
    assert from_gateway.grown(before, "inference_requests_total", lane="bulk", outcome="invalid") == 1


def test_promtool_finds_no_mistake(stack: Stack) -> None:
    tool = promtool()
    assert stack.predict(HIGH).status_code == 200
    stack.outcome(stack.submit(HIGH))
    for text in (*gateway(stack).text, *workers(stack).text):
        checked = subprocess.run([tool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_every_metric_of_the_dashboards_and_rules_is_exported(stack: Stack) -> None:
    queries = pytest.importorskip("tests.monitoring.queries")
    send(stack)
    exported = gateway(stack).names | workers(stack).names
    # The series of a shadow exist once there is a trial.
    read = queries.dashboard_metric_names() | queries.rule_metric_names()
    named = {name for name in read if name.startswith("inference_")}
    named -= {"inference_shadow_rows_total"}
    assert named
    assert named <= exported
