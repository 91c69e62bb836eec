import os

import pytest

from shared.settings import load_settings
from worker.settings import WorkerSettings


def test_one_child_per_core_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/tmp/counts")

    assert load_settings(WorkerSettings).worker_concurrency == os.cpu_count()
    monkeypatch.setenv("WORKER_CONCURRENCY", "7")
    assert load_settings(WorkerSettings).worker_concurrency == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKER_CONCURRENCY", "0"),
        ("WORKER_CONCURRENCY", "257"),
        ("WORKER_METRICS_PORT", "0"),
        ("WORKER_DRAIN_SECONDS", "0"),
        ("PROMETHEUS_MULTIPROC_DIR", None),
    ],
)
def test_a_wrong_value_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str | None
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/tmp/counts")
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit) as ended:
        load_settings(WorkerSettings)

    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith(f"millrace: {name}: ")
    assert told.count("\n") == 1
