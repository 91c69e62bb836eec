import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import environment, up
from scripts.refusal import Refusal
from shared.settings import CommonSettings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a folder of its own, beside any stack that runs from this one, and restore `os.environ`."""
    monkeypatch.setattr(up, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for variable in ("REDIS_URL", "GATEWAY_PORT", "WORKERS"):
        monkeypatch.delenv(variable, raising=False)


def refusal_of_main(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that it prints."""
    assert up.main() == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    return output.err.strip()


def test_a_taken_port_is_one_line(
    taken_port: int, free_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_PORT", str(free_port))
    monkeypatch.setenv("GATEWAY_PORT", str(taken_port))

    assert refusal_of_main(capsys).startswith(f"headrace: port {taken_port} (gateway) is taken by another program")


def test_an_unreachable_broker_is_one_line(
    free_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://:secret@127.0.0.1:{free_port}/0")

    line = refusal_of_main(capsys)

    assert line.startswith(f"headrace: no Redis answers at REDIS_URL redis://***@127.0.0.1:{free_port}/0: ")
    assert "secret" not in line


def test_a_number_that_is_none_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORKERS", "many")

    assert refusal_of_main(capsys) == "headrace: WORKERS is not a number from 1 to 64"


def test_a_second_one_in_the_same_folder_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with up.only_one_here():
        assert refusal_of_main(capsys) == f"headrace: it runs already from this folder, as process {os.getpid()}"


def test_an_exporter_that_can_not_be_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bool:
        raise environment.EnvironmentFailed("no network")

    monkeypatch.setattr(environment, "ensure", fail)
    monkeypatch.setattr(up, "exporter_python", lambda: sys.executable)
    left_out: dict[str, str] = {}

    up.prepare_exporter(left_out)

    assert left_out == {"exporter": "no network"}


def test_training_that_fails_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "train", lambda: 1)

    with pytest.raises(Refusal, match="training failed"):
        up.model_to_serve(CommonSettings())


@pytest.mark.parametrize(("made", "said"), [(False, "misspelt, which is a new model store"), (True, "misspelt\n")])
def test_training_names_the_store_without_the_model(
    made: bool, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(up, "train", lambda: 1)
    monkeypatch.setenv("MODEL_STORE", "misspelt")
    if made:
        (tmp_path / "misspelt").mkdir()

    with pytest.raises(Refusal):
        up.model_to_serve(CommonSettings())

    assert f"there is no model 'iris' in {said}" in capsys.readouterr().out


def test_it_needs_no_more_than_the_locked_environment() -> None:
    """`scripts/environment.py` runs before anything is installed."""
    script = Path(environment.__file__)
    code = f"import runpy; runpy.run_path({str(script)!r})"

    subprocess.run([environment.base_python(), "-I", "-S", "-c", code], check=True, timeout=60)
