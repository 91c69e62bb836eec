import fcntl
import sys
from pathlib import Path

import pytest

from scripts import environment


def test_it_is_made_once_per_lock_and_extended_by_a_second_one(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, runtime, dev = tmp_path / "venv", tmp_path / environment.RUNTIME_LOCK, tmp_path / "dev.txt"
    runtime.write_text("# nothing\n")
    dev.write_text("# nothing either\n")
    python = environment.base_python()

    assert environment.ensure(folder, [runtime], python)
    assert (folder / "bin" / "python").exists()
    assert (folder / ".gitignore").read_text() == "*\n"
    assert not environment.ensure(folder, [runtime], python)

    mark = folder / "mark"
    mark.touch()
    assert environment.ensure(folder, [runtime, dev], python)
    assert mark.exists()
    assert not environment.ensure(folder, [runtime], python), "it has more than that already"
    assert (folder / "bin" / "headrace").stat().st_mode & 0o111

    runtime.write_text("not a requirement\n")
    with pytest.raises(environment.EnvironmentFailed, match=r"installing .*txt into .* failed"):
        environment.ensure(folder, [runtime], python)
    assert not mark.exists(), "a changed lock makes it anew"
    assert not (folder / environment.STAMP_FILE).exists(), "half made counts as made"
    assert capfd.readouterr().out.count("headrace: making") == 3


def test_an_environment_in_use_is_never_replaced(tmp_path: Path) -> None:
    folder, lock = tmp_path / "venv", tmp_path / "lock.txt"
    lock.write_text("# nothing\n")
    folder.mkdir()
    (folder / environment.STAMP_FILE).write_text("another Python\n")
    mark = folder / "mark"
    mark.touch()

    with pytest.raises(environment.EnvironmentFailed, match="stop it first"):
        environment.ensure(folder, [lock], environment.base_python(), in_use=True)

    assert mark.exists()


def test_a_running_stack_is_noticed_by_the_lock_that_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "RUN_LOCK", tmp_path / "lock")
    assert not environment.is_running(), "there is no file"
    with (tmp_path / "lock").open("w") as file:
        assert not environment.is_running(), "nobody holds it"
        fcntl.flock(file, fcntl.LOCK_EX)
        assert environment.is_running()
    assert not environment.is_running()


def test_a_python_without_means_gets_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Debian's python3 without python3-venv and without pip."""
    broken = tmp_path / "broken"
    broken.mkdir()
    for module in ("ensurepip", "pip"):
        (broken / f"{module}.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    monkeypatch.setenv("PATH", str(tmp_path))
    lock = tmp_path / "lock.txt"
    lock.touch()

    assert environment.main([str(tmp_path / "venv"), str(lock)]) == 1

    error = capsys.readouterr().err
    assert "can't make virtual environments: apt install python3-venv" in error
    assert error.count("\n") == 1


def test_it_is_made_from_the_interpreter_below_an_environment() -> None:
    assert Path(environment.base_python()).resolve() == Path(sys.executable).resolve()
