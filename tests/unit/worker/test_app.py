import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import ModelError, ModelNotFound
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from tests.unit.worker.conftest import Publish
from worker.app import consumed_queues, preload, worker_name
from worker.model import predictor
from worker.model.cache import PredictorCache
from worker.model.loader import LoadedEstimator, load_estimator

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
        [sys.executable, "-c", FAILING_POOL], env=os.environ | environment, capture_output=True, text=True, timeout=240
    )

    assert "no child can be started" in ended.stderr
    assert ended.returncode == 1


def test_a_worker_starts_with_an_earlier_version_if_the_one_of_the_alias_is_refused(
    store: ModelStore, publish: Publish
) -> None:
    for version in ("v1", "v2", "v3"):
        manifest = publish("m", version)
        if version != "v1":
            (Path(store.location("m", version)) / manifest.artifact.file).write_bytes(b"altered")
    predictors = PredictorCache(store, 10**9)

    preload(store, predictors, "m")

    assert [str(each) for each in predictors.loaded()] == ["m v1"]
    assert list(predictors.refused()) == [("m", "v3"), ("m", "v2")]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_worker_starts_with_an_earlier_version_if_loading_the_newest_ends_processes(
    store: ModelStore, publish: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("m", "v1")
    publish("m", "v2", format="skops")
    main = os.getpid()

    def load_or_die(manifest: Manifest, *args: Any) -> LoadedEstimator:
        if manifest.version == "v1":
            return load_estimator(manifest, *args)
        assert os.getpid() != main, "the main process loads what ends the process"
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    monkeypatch.setattr(predictor, "load_estimator", load_or_die)
    predictors = PredictorCache(store, 10**9)

    preload(store, predictors, "m")

    assert [str(each) for each in predictors.loaded()] == ["m v1"]
    assert "a process of this worker died while it loaded this artifact" in predictors.refused()["m", "v2"]


def test_a_damaged_alias_keeps_a_worker_from_starting_only_if_the_model_is_served_by_it(
    store: ModelStore, publish: Publish
) -> None:
    publish("m")
    aliases = Path(store.root) / "m" / "aliases"
    (aliases / "candidate.json").write_text("damaged")
    predictors = PredictorCache(store, 10**9)

    preload(store, predictors, "m")

    assert [str(each) for each in predictors.loaded()] == ["m v1"]
    (aliases / "production.json").write_text("damaged")
    with pytest.raises(ModelError, match=r"production\.json"):
        preload(store, PredictorCache(store, 10**9), "m")


def test_a_worker_without_a_version_to_start_with_says_why_the_newest_is_refused(
    store: ModelStore, publish: Publish
) -> None:
    for version in ("v1", "v2"):
        manifest = publish("m", version)
        (Path(store.location("m", version)) / manifest.artifact.file).write_bytes(b"altered")

    with pytest.raises(ModelError, match=r"v2/model\.\w+: its SHA-256 is not"):
        preload(store, PredictorCache(store, 10**9), "m")
    with pytest.raises(ModelNotFound):
        preload(store, PredictorCache(store, 10**9), "another")


def test_workers_of_one_machine_have_hosts_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """celery-exporter knows a worker by the text behind the @."""
    hosts = set()
    for process in (1, 2):
        monkeypatch.setattr("os.getpid", lambda process=process: process)
        hosts.add(worker_name().partition("@")[2])
    assert len(hosts) == 2 and all(hosts)


def test_a_worker_consumes_the_common_lists_or_those_of_its_models() -> None:
    assert consumed_queues([]) == ["interactive", "bulk"]
    assert consumed_queues(["a", "b"]) == ["interactive.a", "interactive.b", "bulk.a", "bulk.b"]
