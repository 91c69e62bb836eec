import re
import subprocess
import sys
from pathlib import Path

import pytest

from shared.model_store import ModelStore
from training.__main__ import main

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def environment(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "LOG_LEVEL", "DEFAULT_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODEL_STORE", str(store.root))


Captured = pytest.CaptureFixture[str]


def test_it_prints_the_scores_and_where_the_model_went(store: ModelStore, capsys: Captured) -> None:
    assert main(["--version", "v1"]) == 0

    output, errors = capsys.readouterr()
    assert output.splitlines()[0] == "LogisticRegression on Iris: 150 rows, 4 features, 3 classes"
    assert re.findall(r"^  (\w+)  0\.\d{4}$", output, re.MULTILINE) == ["accuracy", "f1_macro", "log_loss"]
    assert output.splitlines()[-1] == f"written: {store.root}/iris/v1 (now 'latest' of 'iris')"
    assert errors == ""


def test_the_printed_scores_are_those_of_the_manifest(store: ModelStore, capsys: Captured) -> None:
    main([])

    output = capsys.readouterr().out
    for score, value in store.manifest("iris").scores.items():
        assert re.search(rf"{score} +{value:.4f}", output)


def test_the_environment_names_the_model_and_an_option_the_store(
    tmp_path: Path, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFAULT_MODEL", "flowers")

    assert main(["--models-dir", str(tmp_path / "elsewhere"), "--version", "v1"]) == 0

    assert ModelStore(tmp_path / "elsewhere").manifest("flowers").version == "v1"
    assert not Path(store.root).exists()


def test_an_existing_version_is_one_line_of_complaint(capsys: Captured) -> None:
    main(["--version", "v1"])
    capsys.readouterr()

    assert main(["--version", "v1"]) == 1
    assert capsys.readouterr() == ("", "millrace: version 'v1' of 'iris' exists already\n")


def test_a_store_that_cannot_be_written_is_one_line_of_complaint(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "file").touch()

    assert main(["--models-dir", str(tmp_path / "file")]) == 1
    assert capsys.readouterr() == ("", f"millrace: {tmp_path}/file/iris: Not a directory\n")


@pytest.mark.parametrize("version", ["../v1", "latest"])
def test_a_version_that_cannot_be_one_is_one_line_of_complaint(version: str, capsys: Captured) -> None:
    assert main(["--version", version]) == 1

    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("millrace: ") and errors.count("\n") == 1


def test_as_a_process_it_ends_with_the_exit_code_and_without_a_traceback(store: ModelStore) -> None:
    Path(store.root).touch()

    finished = subprocess.run(
        [sys.executable, "-m", "training"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert finished.returncode == 1
    assert finished.stdout == ""
    assert finished.stderr.startswith("millrace: ") and finished.stderr.count("\n") == 1


def test_if_missing_trains_where_there_is_no_model(store: ModelStore, capsys: Captured) -> None:
    assert main(["--if-missing", "--version", "v1"]) == 0

    assert store.manifest("iris").version == "v1"
    assert "damaged" not in capsys.readouterr().out


def test_if_missing_leaves_an_intact_model_alone(store: ModelStore, capsys: Captured) -> None:
    main(["--version", "v1"])
    capsys.readouterr()

    assert main(["--if-missing"]) == 0

    assert capsys.readouterr() == (f"iris v1 is in {store.root} and intact: nothing to do\n", "")
    assert sorted(path.name for path in (Path(store.root) / "iris").iterdir()) == ["aliases", "v1"]


def test_if_missing_asks_for_the_version_that_is_named(store: ModelStore) -> None:
    main(["--version", "v1"])

    assert main(["--if-missing", "--version", "v2"]) == 0

    assert store.manifest("iris").version == "v2"


@pytest.mark.parametrize("file", ["model.pkl", "manifest.json"])
def test_if_missing_replaces_a_damaged_model_by_a_new_version(store: ModelStore, file: str, capsys: Captured) -> None:
    main(["--version", "v1"])
    damaged = Path(store.location("iris", "v1")) / file
    damaged.write_bytes(damaged.read_bytes()[:-10])

    assert main(["--if-missing"]) == 0

    assert f"iris latest is damaged: {damaged}" in capsys.readouterr().out
    manifest = store.manifest("iris")
    assert manifest.version != "v1"
    assert store.artifact(manifest)
