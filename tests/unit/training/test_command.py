import re
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.models.store import ModelStore
from tests.support.estimators import people
from training.command import main
from training.dataset import BUILT_IN

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
    assert re.findall(r"^  (\w+) +0\.\d{4} ± 0\.\d{4}$", output, re.MULTILINE) == ["accuracy", "f1_macro", "log_loss"]
    assert output.splitlines()[-1] == f"written: {store.root}/iris/v1 (now 'latest' of 'iris'), model card: card.html"
    assert errors == ""


def test_the_printed_scores_are_those_of_the_manifest(store: ModelStore, capsys: Captured) -> None:
    main([])

    output = capsys.readouterr().out
    for score, value in store.manifest("iris").scores.items():
        assert re.search(rf"{score} +{value:.4f}", output)


def test_the_environment_names_the_data_set_and_an_option_the_store(
    tmp_path: Path, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEFAULT_MODEL", "wine")

    assert main(["--store", str(tmp_path / "elsewhere"), "--version", "v1"]) == 0

    assert ModelStore(tmp_path / "elsewhere").manifest("wine").version == "v1"
    assert store.names() == []


def test_a_model_that_is_no_data_set_is_not_trained_in_its_name(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("DEFAULT_MODEL", "churn")

    assert main([]) == 1

    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.startswith("headrace: DEFAULT_MODEL is 'churn', which is no built-in data set (iris, wine, ")
    assert errors.count("\n") == 1
    assert store.names() == []


def test_if_missing_keeps_nobody_from_starting_without_a_model_that_it_cannot_train(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.setenv("DEFAULT_MODEL", "churn")

    assert main(["--if-missing"]) == 0

    assert capsys.readouterr().out.startswith("churn is not in ")
    assert store.names() == []


def test_if_missing_leaves_a_model_of_ones_own_alone(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    main(["--dataset", "iris", "--name", "churn", "--version", "v1"])
    monkeypatch.setenv("DEFAULT_MODEL", "churn")
    capsys.readouterr()

    assert main(["--if-missing"]) == 0

    assert capsys.readouterr() == (f"churn v1 is in {store.root} and intact: nothing to do\n", "")


def test_an_existing_version_is_one_line_of_complaint(capsys: Captured) -> None:
    main(["--version", "v1"])
    capsys.readouterr()

    assert main(["--version", "v1"]) == 1
    assert capsys.readouterr().err == "headrace: version 'v1' of 'iris' exists already\n"


def test_a_store_that_cannot_be_written_is_one_line_of_complaint(tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "file").touch()

    assert main(["--store", str(tmp_path / "file")]) == 1

    errors = capsys.readouterr().err
    assert errors.startswith(f"headrace: {tmp_path}/file/iris") and errors.endswith(": Not a directory\n")


@pytest.mark.parametrize("version", ["../v1", "latest"])
def test_a_version_that_cannot_be_one_is_one_line_of_complaint(version: str, capsys: Captured) -> None:
    assert main(["--version", version]) == 1

    errors = capsys.readouterr().err
    assert errors.startswith("headrace: ") and errors.count("\n") == 1


def test_as_a_process_it_ends_with_the_exit_code_and_without_a_traceback(store: ModelStore) -> None:
    Path(store.root).touch()

    finished = subprocess.run(
        [sys.executable, "-m", "headrace", "train"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )

    assert finished.returncode == 1
    assert finished.stderr.startswith("headrace: ") and finished.stderr.count("\n") == 1


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


def test_if_missing_asks_for_the_name_that_is_given(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    assert main(["--dataset", "iris", "--name", "flowers", "--if-missing", "--version", "v1"]) == 0
    capsys.readouterr()

    assert main(["--dataset", "iris", "--name", "flowers", "--if-missing"]) == 0

    assert capsys.readouterr().out == f"flowers v1 is in {store.root} and intact: nothing to do\n"


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


@pytest.mark.parametrize(("options", "file"), [([], "model.pkl"), (["--format", "skops"], "model.skops")])
def test_the_example_is_a_pickle_unless_asked_otherwise(options: list[str], file: str, store: ModelStore) -> None:
    assert main(options) == 0

    assert store.manifest("iris").artifact.file == file


@pytest.mark.parametrize("dataset", [name for name in BUILT_IN if name != "iris"])
def test_each_built_in_data_set_can_be_trained(dataset: str, store: ModelStore, capsys: Captured) -> None:
    assert main(["--dataset", dataset, "--version", "v1"]) == 0

    manifest = store.manifest(dataset)
    assert manifest.scores[next(iter(manifest.scores))] > (0.4 if dataset == "diabetes" else 0.9)
    assert not any(score.startswith("training_") for score in manifest.scores)
    assert "by models that had not seen the row" in Path(store.location(dataset, "v1"), "card.html").read_text()


def test_a_csv_file_is_trained_from(tmp_path: Path, store: ModelStore, capsys: Captured) -> None:
    path = csv_of_people(tmp_path)

    options = ["--alias", "trial", "--format", "skops", "--trusted", "numpy.dtype"]
    assert main(["--csv", str(path), "--target", "outcome", *options]) == 0

    manifest = store.manifest("some_people", "trial")
    assert store.aliases("some_people").keys() == {"trial"}
    assert manifest.artifact.format == "skops"
    assert {each.name: each.type for each in manifest.features} == {
        "age": "number",
        "income": "number",
        "city": "string",
        "plan": "string",
        "member": "boolean",
        "owner": "boolean",
    }
    assert [each.name for each in manifest.features if each.nullable] == ["income", "city", "owner"]
    assert manifest.outputs[0].classes == ["leaves", "stays"]
    assert "left out: column 'id'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--target", "nothing"], "no column 'nothing'; there are age, income"),
        ([], "--target must say which column"),
        (["--target", "outcome", "--task", "regression"], "outcome holds no numbers"),
        (["--target", "income", "--task", "classification"], "income holds decimal numbers"),
        (["--target", "outcome", "--leave-out", "x"], "no column 'x'"),
    ],
)
def test_a_file_that_does_not_fit_is_one_line_of_complaint(
    tmp_path: Path, capsys: Captured, arguments: list[str], complaint: str
) -> None:
    assert main(["--csv", str(csv_of_people(tmp_path)), *arguments]) == 1

    errors = capsys.readouterr().err
    assert complaint in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("options", [["--alias", "a b"], ["--name", "a b"], ["--version", "a b"], ["--store", ""]])
def test_names_that_can_not_be_are_refused_before_the_training(
    options: list[str], store: ModelStore, capsys: Captured
) -> None:
    assert main(["--dataset", "iris", *options]) == 1

    output, errors = capsys.readouterr()
    assert "cross-validation" not in output
    assert errors.count("\n") == 1
    assert not Path(store.root).exists()


def test_a_new_store_is_named_and_samples_are_a_choice(store: ModelStore, capsys: Captured) -> None:
    for _ in range(2):
        assert main(["--dataset", "iris", "--samples", "none"]) == 0

    assert capsys.readouterr().out.count(f"made a new model store: {store.root}\n") == 1
    assert store.manifest("iris").samples == []


def csv_of_people(folder: Path) -> Path:
    frame, target = people()
    path = folder / "some people.csv"
    frame.assign(outcome=target, id=[f"k{i}" for i in range(len(frame))]).to_csv(path, index=False)
    return path
