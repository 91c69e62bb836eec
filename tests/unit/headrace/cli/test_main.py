import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from headrace.cli import service_commands
from headrace.cli.calls import commands as calls
from headrace.models.store import ModelStore
from headrace.version import __version__
from tests.support.hostile_texts import harmless
from tests.support.processes import REPOSITORY
from tests.unit.headrace.cli.versions import run

Captured = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    "command",
    [
        ("list", "tulip"),
        ("show", "tulip"),
        ("show", "iris", "v9"),
        ("show", "../iris"),
        ("promote", "iris", "v9"),
        ("promote", "iris", "v1", "--alias", "v2"),
        ("rollback", "iris", "--alias", "latest2"),
        ("verify", "tulip"),
        ("verify", "iris", "v9"),
        ("prune", "tulip", "--keep", "1"),
        ("remove", "iris", "v2"),
        ("remove", "iris", "v9"),
        ("remove", "iris", "latest"),
        ("list", "--store", "cloud://models"),
        ("list", "--store", "s3://key:secret@bucket/models"),
    ],
)
def test_what_is_not_possible_is_one_line_of_complaint(
    filled: ModelStore, capsys: Captured, command: tuple[str, ...]
) -> None:
    before = filled.aliases("iris"), filled.versions("iris")

    assert run(*command) == 1

    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("headrace: ") and errors.count("\n") == 1
    assert (filled.aliases("iris"), filled.versions("iris")) == before


def test_an_output_that_nobody_reads_ends_a_command_quietly(filled: ModelStore) -> None:
    program = [sys.executable, "-m", "headrace", "list"]
    environment = {**os.environ, "MODEL_STORE": filled.root}
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as pipe:  # noqa: PTH123 - a descriptor
        unread = subprocess.run(
            program, stdout=pipe, stderr=subprocess.PIPE, cwd=REPOSITORY, env=environment, check=False
        )
    closed = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *program], capture_output=True, cwd=REPOSITORY, env=environment, check=False
    )

    assert (unread.returncode, unread.stderr) == (141, b"")
    assert (closed.returncode, closed.stdout, closed.stderr) == (0, b"", b"")


def test_ctrl_c_ends_a_command_with_one_line(
    filled: ModelStore, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not by the signal, which a process of a shell's background ignores.
    monkeypatch.setattr(ModelStore, "names", Mock(side_effect=KeyboardInterrupt))

    assert run("list") == 130
    assert capsys.readouterr() == ("", "headrace: interrupted\n")


@pytest.mark.parametrize(
    "command",
    [
        ("list",),
        ("show", "iris"),
        ("promote", "iris", "latest"),
        ("rollback", "iris"),
        ("trial", "iris", "v1", "--split", "0.1"),
        ("sign", "iris", "--key", "key"),
        ("verify",),
        ("prune", "iris", "--keep", "1"),
        ("remove", "iris", "v1"),
    ],
)
@pytest.mark.parametrize("place", ["misspelt", ""])
def test_a_store_that_is_not_there_is_named_and_not_made(
    command: tuple[str, ...], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    complaint = f"there is no model store {place} (--store, MODEL_STORE)" if place else "the name of the model store"

    assert run(*command, "--store", place) == 1
    assert complaint in capsys.readouterr().err
    monkeypatch.setenv("MODEL_STORE", place)
    assert run(*command) == 1
    assert complaint in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


COMMANDS = {"export-check", "list", "show", "promote", "rollback", "trial", "sign", "verify", "prune", "remove"}


def test_the_help_lists_every_command(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        run("--help")

    listed = capsys.readouterr().out
    commands = COMMANDS | service_commands.COMMANDS.keys() | calls.SUMMARIES.keys()
    assert [command for command in commands if f"    {command}" not in listed] == []


def test_the_version_is_that_of_the_package(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        run("--version")

    assert capsys.readouterr().out == f"headrace {__version__}\n"


@pytest.mark.parametrize(
    ("library", "extra", "command"),
    [("sklearn", "export", ["verify"]), ("cryptography", "sign", ["sign", "iris", "v1", "--key", "model.key"])],
)
def test_a_missing_extra_is_one_line(filled: ModelStore, library: str, extra: str, command: list[str]) -> None:
    # In a process of its own: a library that was imported before would have to be forgotten.
    program = f"import sys; sys.modules[{library!r}] = None; from headrace.cli.main import main; sys.exit(main())"
    ran = subprocess.run(
        [sys.executable, "-c", program, *command], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr.startswith(f"headrace: {library} is not installed") and ran.stderr.count("\n") == 1
    assert f"pip install '.[{extra}]'" in ran.stderr


@pytest.mark.parametrize("name", service_commands.COMMANDS)
def test_a_command_of_the_service_exists_in_this_repository(name: str) -> None:
    # In a process of its own: `train` sets logging up.
    ran = subprocess.run(
        [sys.executable, "-m", "headrace", name, "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith(f"usage: headrace {name} ")


@pytest.mark.parametrize("name", service_commands.COMMANDS)
def test_a_command_of_the_service_is_refused_without_the_service(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Captured
) -> None:
    monkeypatch.setattr(service_commands, "FOLDER", tmp_path)

    assert run(name) == 2

    error = capsys.readouterr().err
    assert error.startswith(f"headrace: `headrace {name}` runs where the service is: ") and error.count("\n") == 1


def test_a_missing_library_of_the_service_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / "incomplete.py").write_text("import celery_of_another_world\n")
    command = service_commands.ServiceCommand("incomplete", "main", "", "trainer")
    monkeypatch.setattr(service_commands, "FOLDER", tmp_path)
    monkeypatch.setitem(service_commands.COMMANDS, "train", command)
    monkeypatch.setattr(sys, "path", sys.path.copy())

    assert run("train") == 2

    assert "`headrace train` runs where the service is" in capsys.readouterr().err


def test_packages_of_the_working_folder_are_not_taken_for_the_service(tmp_path: Path) -> None:
    for package in ("training", "gateway", "shared"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('the package of the working folder')\n")
    ran = subprocess.run(
        [sys.executable, "-c", "import sys; from headrace.cli.main import main; sys.exit(main(['train', '--help']))"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("usage: headrace train ")


def test_it_runs_as_a_module(filled: ModelStore) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "headrace", "list"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert ran.stdout.splitlines()[0].startswith("MODEL ")


def test_texts_that_other_libraries_print_are_escaped(capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        run("show", "iris", "v1", "\x1b[2J")

    output, errors = capsys.readouterr()
    assert output == "" and harmless(errors)
    assert "\\x1b[2J" in errors
