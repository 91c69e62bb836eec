"""`python -m worker`: what it prepares before it becomes the worker."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

from worker.__main__ import ENVIRONMENT, main

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class Exec:
    """The program that the process would have become."""

    command: list[str]
    environment: dict[str, str]

    def __call__(self, program: str, command: list[str], environment: dict[str, str]) -> None:
        assert program == command[0] == sys.executable
        self.command, self.environment = command, environment


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Exec:
    became = Exec()
    monkeypatch.setattr(os, "execve", became)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in (*THREADS, "HEADRACE_OWNS_MULTIPROC_DIR"):
        monkeypatch.delenv(name, raising=False)
    return became


def test_it_becomes_the_worker(became: Exec) -> None:
    main()

    assert became.command[1:] == ["-m", "worker.main_process"]


def test_numerical_libraries_get_one_thread(became: Exec) -> None:
    main()

    assert set(ENVIRONMENT) == set(THREADS)
    assert {became.environment[name] for name in THREADS} == {"1"}


def test_what_the_user_set_is_kept(became: Exec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "mine"))
    monkeypatch.setenv("SOMETHING_ELSE", "x")

    main()

    assert became.environment["OMP_NUM_THREADS"] == "4"
    assert became.environment["MKL_NUM_THREADS"] == "1"
    assert became.environment["PROMETHEUS_MULTIPROC_DIR"] == str(tmp_path / "mine")
    assert became.environment["SOMETHING_ELSE"] == "x"
    assert "HEADRACE_OWNS_MULTIPROC_DIR" not in became.environment, "and not removed at the end"


@pytest.mark.parametrize("unset", [None, ""])
def test_without_a_metrics_folder_it_gets_one_of_its_own(
    became: Exec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, unset: str | None
) -> None:
    if unset is not None:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", unset)

    main()

    folder = Path(became.environment["PROMETHEUS_MULTIPROC_DIR"])
    assert folder.is_dir()
    assert folder.parent == tmp_path
    assert str(os.getpid()) in folder.name
    assert folder.stat().st_mode & 0o777 == 0o700, "its own"
    assert became.environment["HEADRACE_OWNS_MULTIPROC_DIR"] == "1", "to be removed at the end"


def test_nobody_can_foresee_the_folder_and_put_links_into_it(became: Exec) -> None:
    folders = set()
    for _ in range(2):
        main()
        folders.add(became.environment["PROMETHEUS_MULTIPROC_DIR"])

    assert len(folders) == 2


def test_a_folder_that_can_not_be_made_is_one_line_of_complaint(
    became: Exec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "file" / "counts"))

    with pytest.raises(SystemExit, match="no folder for metrics"):
        main()


def test_the_metrics_folder_is_made_with_its_parents(
    became: Exec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "a" / "b"))

    main()

    assert (tmp_path / "a" / "b").is_dir()


def test_counts_of_an_earlier_run_are_removed_and_nothing_else(
    became: Exec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("counter_slot0.db", "gauge_livesum_main1.db", "notes.txt", "db"):
        (tmp_path / name).touch()
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "counter_slot0.db").touch()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))

    main()

    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["db", "deeper/counter_slot0.db", "notes.txt"]


def test_this_process_stays_as_it_was(became: Exec) -> None:
    before = dict(os.environ)

    main()

    assert dict(os.environ) == before
