import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shared.queue.heartbeat import PINNED_MAX
from shared.settings import load_settings
from worker.model.allow_list import AllowList
from worker.settings import WorkerSettings


def settings(**values: Any) -> WorkerSettings:
    return WorkerSettings(prometheus_multiproc_dir=Path("metrics"), **values)


def test_a_worker_serves_any_model_and_trusts_the_usual_by_default() -> None:
    assert settings().pinned_models == []
    assert settings().allow_list == AllowList()


def test_lists_are_separated_by_commas() -> None:
    found = settings(
        worker_models="iris,wine-2", trusted_modules="lightgbm,my.models", skops_trusted_types="numpy.dtype"
    )

    assert found.pinned_models == ["iris", "wine-2"]
    assert found.allow_list == AllowList(frozenset(["lightgbm", "my.models"]), frozenset(["numpy.dtype"]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"worker_models": "iris, wine"},
        {"worker_models": "../iris"},
        {"worker_models": ","},
        {"worker_models": ",".join(["iris"] * (PINNED_MAX + 1))},
        {"trusted_modules": "*"},
        {"trusted_modules": "os."},
        {"skops_trusted_types": "a b"},
        {"worker_memory_budget_bytes": 0},
    ],
    ids=lambda wrong: str(wrong)[:50],
)
def test_what_is_no_list_of_names_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**wrong)


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
        ("WORKER_MODELS", "../iris"),
        ("TRUSTED_MODULES", "*"),
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
    assert told.startswith(f"headrace: {name}: ")
    assert told.count("\n") == 1
