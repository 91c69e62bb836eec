import json
import subprocess
import sys
import textwrap
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from threadpoolctl import threadpool_info, threadpool_limits

from headrace import export
from headrace.errors import ModelError, ModelNotFound, VersionExists
from headrace.models.golden import golden_rows
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from training.dataset import Dataset

REPOSITORY = Path(__file__).parents[4]
SCORES = {"accuracy": 0.96}


def add(store: ModelStore, estimator: Any, rows: Any, *, version: str | None = "v1", **changes: Any) -> Manifest:
    """Export an estimator as the model "iris", with names made up for the columns."""
    names = [f"x{column}" for column in range(np.shape(rows)[-1])]
    arguments = {"name": "iris", "feature_names": names, "scores": SCORES, "format": "joblib", **changes}
    return export(estimator, rows, store=store, version=version, **arguments).manifest


def folder_of(store: ModelStore, version: str) -> Path:
    return Path(store.location("iris", version))


def test_a_version_holds_an_artifact_with_its_manifest_beside_it(
    store: ModelStore, fitted: LogisticRegression, iris: Dataset
) -> None:
    manifest = add(store, fitted, iris.rows, feature_names=iris.feature_names)

    folder = Path(store.location("iris", "v1"))
    assert sorted(path.name for path in folder.iterdir()) == ["card.html", "golden.json", "manifest.json", "model.pkl"]
    assert store.artifact(manifest) == (folder / "model.pkl").read_bytes()
    assert store.manifest("iris", "v1") == manifest


def test_the_manifest_tells_what_the_gateway_and_the_dashboards_need(
    store: ModelStore, fitted: LogisticRegression, iris: Dataset
) -> None:
    manifest = add(store, fitted, iris.rows, feature_names=iris.feature_names, description="for a test")

    assert (manifest.name, manifest.version, manifest.description) == ("iris", "v1", "for a test")
    assert [each.name for each in manifest.features] == ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    assert [(each.minimum, each.maximum) for each in manifest.features] == [
        (4.3, 7.9),
        (2.0, 4.4),
        (1.0, 6.9),
        (0.1, 2.5),
    ]
    assert {each.type for each in manifest.features} == {"number"}
    assert all(len(each.reference.bins) == 5 and each.histogram_edges for each in manifest.features)
    assert manifest.outputs[0].kind == "class"
    assert manifest.outputs[0].classes == ["setosa", "versicolor", "virginica"]
    assert manifest.probabilities is True
    assert manifest.outputs[0].reference.bins == ["setosa", "versicolor", "virginica"]
    assert manifest.training_rows == 150
    assert manifest.scores == SCORES
    assert set(manifest.libraries) == {"python", "scikit-learn", "numpy", "scipy", "joblib"}
    assert manifest.estimator.endswith("LogisticRegression")


def test_the_artifact_reproduces_the_sample_rows(store: ModelStore, fitted: LogisticRegression, iris: Dataset) -> None:
    manifest = add(store, fitted, iris.rows)

    estimator = joblib.load(Path(store.location("iris", "v1")) / manifest.artifact.file)
    rows = np.asarray([sample.row for sample in manifest.samples], dtype=np.float64)
    assert estimator.predict(rows).tolist() == [sample.prediction for sample in manifest.samples]
    assert estimator.predict_proba(rows).tolist() == [
        pytest.approx(sample.probabilities, rel=1e-9) for sample in manifest.samples
    ]


def test_the_samples_are_five_rows_of_all_classes(store: ModelStore, fitted: LogisticRegression, iris: Dataset) -> None:
    manifest = add(store, fitted, iris.rows)

    for samples in manifest.samples, golden_rows(store, manifest):
        assert len(samples) == 5
        assert len({tuple(sample.row) for sample in samples}) == 5
        assert {sample.prediction for sample in samples} == {"setosa", "versicolor", "virginica"}


def test_a_class_of_few_rows_is_among_the_golden_rows(store: ModelStore) -> None:
    rows = np.array([[0.0]] * 300 + [[10.0]] * 2 + [[20.0]] * 700)
    estimator = LogisticRegression(C=1e6, max_iter=10_000).fit(rows, ["low"] * 300 + ["middle"] * 2 + ["top"] * 700)

    samples = golden_rows(store, add(store, estimator, rows))

    assert {sample.prediction for sample in samples} == {"low", "middle", "top"}


def test_the_artifact_loads_where_nothing_of_headrace_can_be_imported(
    store: ModelStore, fitted: LogisticRegression, iris: Dataset, tmp_path: Path
) -> None:
    add(store, fitted, iris.rows)
    program = """
        import json, sys
        from pathlib import Path
        for package in ("training", "shared", "worker", "gateway"):
            sys.modules[package] = None  # importing it fails
        import joblib, numpy
        manifest = json.loads(Path(sys.argv[1], "manifest.json").read_bytes())
        estimator = joblib.load(Path(sys.argv[1], "model.pkl"))
        rows = numpy.asarray([sample["row"] for sample in manifest["samples"]], dtype=numpy.float64)
        assert estimator.predict(rows).tolist() == [sample["prediction"] for sample in manifest["samples"]]
        print(len(rows), "agree")
    """
    command = [
        sys.executable,
        "-I",
        "-W",
        "error",
        "-c",
        textwrap.dedent(program),
        str(Path(store.location("iris", "v1"))),
    ]

    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (finished.stdout, finished.stderr) == ("5 agree\n", "")


def test_the_reference_of_the_output_is_what_the_model_says_and_not_the_labels(store: ModelStore) -> None:
    rows = [[0.0], [0.0], [0.0], [1.0]]
    majority = DummyClassifier(strategy="most_frequent").fit(rows, ["a", "a", "a", "b"])

    assert add(store, majority, rows).outputs[0].reference.ratios == pytest.approx([4.5 / 5, 0.5 / 5])


def test_a_classifier_without_probabilities_says_so(store: ModelStore, iris: Dataset) -> None:
    manifest = add(store, RidgeClassifier().fit(iris.rows, iris.targets), iris.rows)

    assert manifest.probabilities is False
    assert {sample.probabilities for sample in manifest.samples} == {None}


@pytest.mark.parametrize("classes", [[0, 1], [False, True], ["no", "yes"]], ids=["integers", "booleans", "text"])
def test_classes_keep_their_type(store: ModelStore, classes: list[Any]) -> None:
    rows = [[0.0], [1.0]]
    manifest = add(store, LogisticRegression().fit(rows, classes), rows)

    assert manifest.outputs[0].classes == classes
    assert [type(each) for each in manifest.outputs[0].classes] == [type(each) for each in classes]
    assert [sample.prediction for sample in manifest.samples] == classes
    assert type(manifest.samples[0].prediction) is type(classes[0])


def test_a_regressor_has_a_binned_output(store: ModelStore) -> None:
    rows = np.arange(2_000.0).reshape(-1, 1)
    manifest = add(store, LinearRegression(n_jobs=2).fit(rows, 3 * rows[:, 0]), rows)

    assert manifest.outputs[0].kind == "number"
    assert manifest.outputs[0].classes is None
    assert manifest.outputs[0].reference.edges == pytest.approx(
        [597, 1197, 1797, 2397, 2997, 3597, 4197, 4797, 5397], abs=3.001
    )
    golden = golden_rows(store, manifest)
    assert [sample.prediction for sample in golden] == pytest.approx([0, 1500, 3000, 4497, 5997], abs=1e-6)


def test_the_version_is_the_time_unless_it_is_given(
    store: ModelStore, fitted: LogisticRegression, iris: Dataset
) -> None:
    before = datetime.now(timezone.utc).replace(microsecond=0)
    manifest = add(store, fitted, iris.rows, version=None)

    named = datetime.strptime(manifest.version, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    assert before <= named <= datetime.now(timezone.utc)
    assert datetime.fromisoformat(manifest.created_at) == named


def test_the_alias_latest_follows_the_newest_version(
    store: ModelStore, fitted: LogisticRegression, iris: Dataset
) -> None:
    add(store, fitted, iris.rows, version="v1")
    add(store, fitted, iris.rows, version="v2")

    assert store.aliases("iris") == {"latest": "v2"}
    assert store.manifest("iris").version == "v2"
    assert store.manifest("iris", "v1").version == "v1"


def test_a_version_is_never_written_twice(store: ModelStore, fitted: LogisticRegression, iris: Dataset) -> None:
    first = add(store, fitted, iris.rows, description="the first")

    with pytest.raises(VersionExists, match="'v1' of 'iris' exists already"):
        add(store, fitted, iris.rows, description="the second")

    assert store.manifest("iris", "v1") == first


def test_a_crash_while_writing_leaves_nothing_behind(
    store: ModelStore, fitted: LogisticRegression, iris: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_: object, path: Path) -> None:
        path.write_bytes(b"half an arti")
        raise OSError("disk full")

    monkeypatch.setattr(joblib, "dump", crash)

    with pytest.raises(OSError, match="disk full"):
        add(store, fitted, iris.rows)

    assert not Path(store.root).exists()
    with pytest.raises(ModelNotFound):
        store.manifest("iris")


def test_a_crash_between_artifact_and_manifest_leaves_the_last_version_in_place(
    store: ModelStore, fitted: LogisticRegression, iris: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = add(store, fitted, iris.rows, version="v1")
    monkeypatch.setattr("headrace.exporting.artifact.unpickle", lambda *_: pytest.fail("cannot be unpickled"))

    with pytest.raises(pytest.fail.Exception):
        add(store, fitted, iris.rows, version="v2")

    assert sorted(path.name for path in (Path(store.root) / "iris").iterdir()) == ["aliases", "v1"]
    assert store.manifest("iris") == first


def test_a_killed_export_shows_no_version(store: ModelStore) -> None:
    program = """
        import os, sys
        from pathlib import Path
        import joblib
        from headrace.models.store import ModelStore
        from headrace import export
        from training.pipeline import build_estimator

        def die(_, path):
            path.write_bytes(b"half an arti")
            os._exit(9)

        joblib.dump = die
        rows = [[0.0], [1.0]]
        estimator = build_estimator().fit(rows, ["a", "b"])
        store = ModelStore(Path(sys.argv[1]))
        export(estimator, rows, store=store, name="iris", feature_names=["x"], scores={}, version="v1", format="joblib")
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(store.root)]

    assert subprocess.run(command, cwd=REPOSITORY, check=False).returncode == 9

    assert not Path(store.location("iris", "v1")).exists()
    with pytest.raises(ModelNotFound):
        store.manifest("iris", "v1")


@pytest.mark.parametrize("changes", [{"name": "../iris"}, {"version": "a/b"}, {"version": "latest"}])
def test_names_that_the_store_cannot_hold_are_refused(
    store: ModelStore, fitted: LogisticRegression, iris: Dataset, changes: dict[str, Any]
) -> None:
    with pytest.raises(ModelError):
        add(store, fitted, iris.rows, **changes)

    assert not Path(store.root).exists()


def test_the_manifest_is_strict_json(store: ModelStore, fitted: LogisticRegression, iris: Dataset) -> None:
    add(store, fitted, iris.rows)

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    json.loads((Path(store.location("iris", "v1")) / "manifest.json").read_bytes(), parse_constant=refuse)


def test_versions_of_one_second_have_names_of_their_own_in_the_order_of_time(
    store: ModelStore, fitted: LogisticRegression, iris: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        microseconds = 100_000

        @classmethod
        def now(cls, tz: Any = None) -> "Clock":
            cls.microseconds += 1
            return cls(2026, 11, 23, 12, 45, 0, cls.microseconds, tz)

    monkeypatch.setattr("headrace.exporting.exporter.datetime", Clock)

    versions = [add(store, fitted, iris.rows, version=None).version for _ in range(3)]

    assert versions[0] == "20261123T124500Z" and versions[1] == "20261123T124500Z.100002"
    assert versions == sorted(versions) == store.versions("iris")
    assert versions[-1] < "20261123T124501Z"


def test_a_version_that_another_process_adds_meanwhile_is_no_failure(
    store: ModelStore, fitted: LogisticRegression, iris: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(["v1", "v2"])
    monkeypatch.setattr("headrace.exporting.exporter._free_version", lambda *_: next(names))
    write = joblib.dump

    def meanwhile(estimator: Any, path: Path) -> None:
        monkeypatch.setattr(joblib, "dump", write)
        add(store, fitted, iris.rows, version="v1")
        write(estimator, path)

    monkeypatch.setattr(joblib, "dump", meanwhile)

    assert add(store, fitted, iris.rows, version=None).version == "v2"
    # In the order of the seconds in which the exports began.
    assert sorted(store.versions("iris")) == ["v1", "v2"]


def test_a_new_store_is_said_to_be_new(
    fitted: LogisticRegression, iris: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_STORE", str(tmp_path / "modles"))

    first, second = (export(fitted, iris.rows, name="iris") for _ in range(2))

    assert (first.new_store, second.new_store) == (True, False)
    assert "new_store=True" in repr(first) and "In a new model store: " in first._repr_html_()
    assert "new_store=" not in repr(second) and "In a new model store" not in second._repr_html_()


def test_an_empty_name_of_the_store_is_refused(
    fitted: LogisticRegression, iris: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MODEL_STORE", "")

    with pytest.raises(ModelError, match="MODEL_STORE"):
        export(fitted, iris.rows, name="iris")

    assert list(tmp_path.iterdir()) == []


def test_few_rows_are_predicted_by_one_thread(
    store: ModelStore, fitted: LogisticRegression, iris: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def threads() -> set[int]:
        return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "openmp"}

    counted: list[set[int]] = []
    monkeypatch.setattr("headrace.exporting.exporter.check_independence", lambda *_: counted.append(threads()))

    with threadpool_limits(2, user_api="openmp"):
        add(store, fitted, iris.rows)
        assert threads() == {2}
    assert counted and all(each == {1} for each in counted)
