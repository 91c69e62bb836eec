import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.models.store import ModelStore
from tests.unit.worker.conftest import Publish
from tests.unit.worker.metrics.test_worker import samples
from worker.app import consumed_queues, count_error, worker_name
from worker.metrics.worker import WorkerMetrics
from worker.model.predictor import Predictor

FAILING_POOL = """
from celery.concurrency.prefork import TaskPool
from worker.app import main

def fail(pool):
    raise RuntimeError("no child can be started")

TaskPool.on_start = fail
main()
"""


def test_where_celery_fails_the_worker_ends_with_an_error(store: ModelStore, publish: Publish, tmp_path: Path) -> None:
    publish("m")
    (tmp_path / "counts").mkdir()
    environment = {"MODEL_STORE": str(store.root), "DEFAULT_MODEL": "m"}
    environment["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path / "counts")

    ended = subprocess.run(
        [sys.executable, "-c", FAILING_POOL], env=os.environ | environment, capture_output=True, text=True, timeout=60
    )

    assert "no child can be started" in ended.stderr
    assert ended.returncode == 1


def test_workers_of_one_machine_have_hosts_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """celery-exporter knows a worker by what follows the @."""
    hosts = set()
    for process in (1, 2):
        monkeypatch.setattr("os.getpid", lambda process=process: process)
        hosts.add(worker_name().partition("@")[2])
    assert len(hosts) == 2 and all(hosts)


def test_a_worker_consumes_the_common_lists_or_those_of_its_models() -> None:
    assert consumed_queues([]) == ["interactive", "bulk"]
    assert consumed_queues(["a", "b"]) == ["interactive.a", "interactive.b", "bulk.a", "bulk.b"]


def test_lost_rows_are_counted_without_loading_the_model(
    store: ModelStore, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("m")
    monkeypatch.setattr(Predictor, "load", pytest.fail)
    metrics = WorkerMetrics()

    count_error(store, metrics, "m", "v1", "worker_lost", 3)

    told = samples(metrics.errors, metrics.predictions)
    assert told["inference_errors_total/worker_lost/m/v1"] == 3
    assert told["inference_predictions_total/m/error/v1"] == 3


@pytest.mark.parametrize(("name", "version"), [("m", "v9"), ("other", "v1"), ("../m", "v1")])
def test_lost_rows_of_a_version_that_is_gone_are_logged(
    store: ModelStore, publish: Publish, caplog: pytest.LogCaptureFixture, name: str, version: str
) -> None:
    publish("m")
    metrics = WorkerMetrics()

    count_error(store, metrics, name, version, "worker_lost", 3)

    assert samples(metrics.errors) == {}
    assert f"3 rows of {name} {version} not counted as worker_lost" in caplog.text
