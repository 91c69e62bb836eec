"""Estimators and rows that can't be served are refused at export, with a reason and a remedy."""

import sys
import types
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.cluster import DBSCAN
from sklearn.dummy import DummyClassifier
from sklearn.feature_selection import VarianceThreshold
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from headrace import NotExportable, export
from headrace.errors import ModelError
from headrace.models.fields import LABEL_MAX, NAME_MAX
from headrace.models.identifiers import ALLOWED
from headrace.models.store import ModelStore
from tests.support.estimators import CASES
from tests.support.puppet import Puppet, less_the_mean

X = np.array([[0.0, 0.0], [1.0, 1.0]] * 4)
Y = np.array(["a", "b"] * 4)


class LeansOnTheBatch(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A classifier that compares a row with the mean of the batch."""

    def fit(self, rows: Any, targets: Any) -> "LeansOnTheBatch":
        self.classes_ = np.unique(targets)
        return self

    def predict(self, rows: Any) -> Any:
        return self.classes_[(rows[:, 0] > rows[:, 0].mean()).astype(int)]


class Counts(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier that predicts the other class at every second call."""

    def fit(self, rows: Any, targets: Any) -> "Counts":
        self.classes_ = np.unique(targets)
        self.calls = 0
        return self

    def predict(self, rows: Any) -> Any:
        self.calls += 1
        return np.repeat(self.classes_[self.calls % 2], len(rows))


class Forgets(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier that predicts another class after it was stored."""

    def fit(self, rows: Any, targets: Any) -> "Forgets":
        self.classes_ = np.unique(targets)
        return self

    def predict(self, rows: Any) -> Any:
        return np.repeat(self.classes_[getattr(self, "stored", 0)], len(rows))

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, stored=1)


def from_main() -> Any:
    """An estimator whose class belongs to the module `__main__`."""
    of_main = types.new_class("OfMain", (DummyClassifier,))
    of_main.__module__ = "__main__"
    sys.modules["__main__"].OfMain = of_main  # type: ignore[attr-defined]
    return of_main().fit(X, Y)


def same(rows: Any) -> Any:
    return rows


def running_sum(rows: Any) -> Any:
    return np.cumsum(rows, axis=0)


def bounded_by_the_batch(rows: Any) -> Any:
    """Scale by the greatest value of a batch that is beyond those of training."""
    return rows / max(1.0, rows.max())


def with_function(function: Callable[..., Any]) -> Any:
    return make_pipeline(FunctionTransformer(function), LogisticRegression()).fit(X, Y)


ESTIMATORS: dict[str, tuple[Callable[[], Any], str]] = {
    "lambda": (lambda: with_function(lambda rows: rows), "lambda"),
    "class from __main__": (from_main, "__main__.OfMain is defined in the program that was started"),
    "class of a project": (
        lambda: Forgets().fit(X, Y),
        r"extra_modules=\('tests',\).*TRUSTED_MODULES=tests",
    ),
    "function of a project": (
        lambda: with_function(same),
        r"workers refuse tests\.unit\.headrace\.exporting\.test_refusals\.same",
    ),
    "distributions": (
        lambda: RandomizedSearchCV(Ridge(), {"alpha": stats.uniform(0, 1)}, n_iter=1, cv=2).fit(X, X[:, 0]),
        "export its best_estimator_",
    ),
    "no predict": (lambda: DBSCAN().fit(X), "DBSCAN has no predict"),
    "transformer": (lambda: StandardScaler().fit(X), "StandardScaler has no predict"),
    "not fitted": (lambda: LogisticRegression(), "NotFittedError"),
    "odd classes": (
        lambda: DummyClassifier().fit(X, np.array([0.5, 1.5] * 4)),
        r"must be texts, whole numbers or booleans, and are 0\.5, 1\.5: fit it on y\.astype\(str\)",
    ),
    "other estimator when stored": (
        lambda: Forgets().fit(X, Y),
        "the stored estimator and that in memory differ: row 0: 'a', then 'b'",
    ),
    "depends on the batch": (lambda: LeansOnTheBatch().fit(X, Y), "depends on the other rows"),
    "step that depends on the batch": (
        lambda: with_function(less_the_mean),
        r"depends on the other rows of the batch: .*\. Its step 'functiontransformer' \(FunctionTransformer\) makes",
    ),
    "step of a search that depends on the batch": (
        lambda: GridSearchCV(with_function(less_the_mean), {"logisticregression__C": [1.0]}, cv=2).fit(X, Y),
        "Its step 'functiontransformer'",
    ),
    "depends on the order": (lambda: with_function(running_sum), "depends on the other rows of the batch"),
    "depends on odd rows only": (lambda: with_function(bounded_by_the_batch), "depends on the other rows"),
    "draws": (
        lambda: DummyClassifier(strategy="uniform").fit(X, Y),
        "two predictions of the same rows differ: it draws at random",
    ),
    "draws the same again": (
        lambda: DummyClassifier(strategy="uniform", random_state=0).fit(X, Y),
        "depends on the other rows",
    ),
    "changes": (lambda: Counts().fit(X, Y), "two predictions of the same rows differ"),
}


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_estimators_are_refused_with_the_reason(kind: str, store: ModelStore) -> None:
    make, complaint = ESTIMATORS[kind]
    own = () if kind.endswith("of a project") else ("tests",)

    with pytest.raises(NotExportable, match=complaint):
        export(make(), X, name="refused", store=store, extra_modules=own)

    assert store.names() == []


def dates() -> Any:
    return pd.DataFrame({"a": [0.0, 1.0] * 4, "when": pd.date_range("2026-01-01", periods=8)})


ROWS: dict[str, tuple[Callable[[], Any], str]] = {
    "sparse": (lambda: sparse.csr_matrix(X), "X is sparse"),
    "sparse column": (lambda: pd.DataFrame({"a": pd.arrays.SparseArray([0.0, 1.0])}), "column 'a' is sparse"),
    "dates": (dates, r"column 'when' is of dtype datetime64.*Make dates numbers \(seconds: X\[c\]\.map"),
    "days": (lambda: pd.DataFrame({"a": [date(2026, 1, 1)] * 2}), "holds date values.*Make dates numbers"),
    "an array of dates": (lambda: np.array([["2026-01-01"]], dtype="M8[s]"), "X holds datetime64.*Make dates numbers"),
    "durations": (lambda: pd.DataFrame({"a": pd.to_timedelta([1, 2], "s")}), r"X\[c\]\.dt\.total_seconds\(\)"),
    "periods": (lambda: pd.DataFrame({"a": pd.period_range("2026", periods=2, freq="Y")}), "Make periods numbers"),
    "decimal numbers": (lambda: pd.DataFrame({"a": [Decimal(1), Decimal(2)]}), r"X\[c\]\.astype\(float\)"),
    "bytes": (lambda: pd.DataFrame({"a": [b"x", b"y"]}), r"decode\('utf-8'\)"),
    "texts for an estimator of numbers": (lambda: ["red", "blue"], "can't predict its own training rows"),
    "nested": (lambda: pd.DataFrame({"a": [[1], [2]]}), "column 'a' is of dtype object"),
    "mixed": (lambda: pd.DataFrame({"a": ["x", 1]}), "holds mixed-integer values"),
    "categories of numbers": (lambda: pd.DataFrame({"a": pd.Categorical([1, 2])}), "categories other than text"),
    "nothing but gaps": (lambda: pd.DataFrame({"a": [None, None]}), "column 'a' holds no values"),
    "infinity": (lambda: np.array([[0.0, np.inf], [1.0, 1.0]]), "holds infinity"),
    "NaN": (lambda: np.array([[0.0, np.nan], [1.0, 1.0]]), "can't predict its own training rows.*NaN"),
    "one dimension": (lambda: np.array([0.0, 1.0]), r"shape \(2,\)"),
    "no rows": (lambda: np.empty((0, 2)), r"shape \(0, 2\)"),
    "text": (lambda: [["red", "blue"]], "X holds text: pass a pandas DataFrame"),
    "other width": (lambda: np.zeros((2, 3)), "can't predict its own training rows.*3 features"),
    "repeated names": (lambda: pd.DataFrame([[0.0, 1.0]], columns=["x", "x"]), "feature names repeat"),
    "long name": (lambda: pd.DataFrame([[0.0, 1.0]], columns=["x" * 129, "y"]), "1 to 128 characters"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_rows_are_refused_with_the_reason(kind: str, store: ModelStore) -> None:
    make, complaint = ROWS[kind]

    with pytest.raises(NotExportable, match=complaint):
        export(LogisticRegression().fit(X, Y), make(), name="refused", store=store)

    assert store.names() == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"feature_names": ["x"]}, "1 feature names for 2 columns"),
        ({"feature_names": ["x", "x"]}, "feature names repeat"),
        ({"scores": {"accuracy": float("nan")}}, "finite"),
        ({"y": Y[:3]}, r"y has shape \(3,\), expected \(8,\)"),
        ({"y": Y, "held_out": Y[:3]}, r"held_out has shape \(3,\)"),
        ({"format": "onnx"}, "format is 'onnx': it is 'joblib' or 'skops'"),
        ({"description": "x" * 100_001}, "description: .*at most 100000 characters"),
        ({"scores": {"x" * 513: 1.0}}, "at most 512 characters"),
        ({"name": None}, f"None can't be the name of a model: {ALLOWED}"),
        ({"name": "My Model!"}, f"'My Model!' can't be the name of a model: {ALLOWED}"),
        ({"version": 5}, f"5 can't be a version: {ALLOWED}"),
        ({"version": "latest"}, "'latest' can't be a version: the store uses it otherwise"),
        ({"alias": "a b"}, f"'a b' can't be an alias: {ALLOWED}"),
        ({"alias": "v1", "version": "v1"}, "'v1' can't be an alias of 'refused': it is the name of a version"),
        ({"store": ""}, r"the name of the model store is empty \(MODEL_STORE\)"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], complaint: str, store: ModelStore) -> None:
    given = {"name": "refused", "store": store, **arguments}

    with pytest.raises((NotExportable, ModelError), match=complaint) as caught:
        export(LogisticRegression().fit(X, Y), X, given.pop("y", None), **given)

    # Of a store whose name is empty, the variable may be wrong.
    assert isinstance(caught.value, ValueError) or "store" in arguments
    assert not Path(store.root).exists()


def test_a_refused_export_leaves_the_store_as_it_was(store: ModelStore) -> None:
    export(LogisticRegression().fit(X, Y), X, name="kept", version="v1", store=store)
    before = sorted(Path(store.root).rglob("*"))

    for name, version, alias in ("refused", None, None), ("kept", None, "v1"), ("kept", "v1", None):
        with pytest.raises((NotExportable, ModelError)):
            export(
                LogisticRegression().fit(X, Y),
                np.array([[0.0, np.inf]]),
                store=store,
                name=name,
                version=version,
                alias=alias,
            )
    with pytest.raises(NotExportable, match="lambda"):
        export(with_function(lambda rows: rows), X, name="refused", store=store)

    assert sorted(Path(store.root).rglob("*")) == before


def test_what_workers_are_told_to_trust_is_exported(store: ModelStore) -> None:
    rows = np.array([[-1.0, 0.0], [1.0, 0.0]] * 3)

    manifest = export(
        Puppet().fit(rows, np.array(["low", "high"] * 3)), rows, name="puppet", store=store, extra_modules=("tests",)
    ).manifest

    assert manifest.estimator == "tests.support.puppet.Puppet"


def test_skops_holds_what_it_knows_and_nothing_else(store: ModelStore) -> None:
    manifest = export(LogisticRegression().fit(X, Y), X, name="known", store=store, format="skops").manifest
    assert (manifest.artifact.file, manifest.artifact.format) == ("model.skops", "skops")
    assert "skops" in manifest.libraries

    boosting = CASES["boosting with gaps"]()
    with pytest.raises(NotExportable, match=r"skops does not trust .*TreePredictor.*SKOPS_TRUSTED_TYPES="):
        export(boosting.estimator, boosting.X, name="boosting", store=store, format="skops")
    trusted = ["numpy.dtype", "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"]
    manifest = export(
        boosting.estimator, boosting.X, name="boosting", store=store, format="skops", trusted=trusted
    ).manifest
    assert manifest.artifact.format == "skops"


@pytest.mark.parametrize(
    ("estimator", "files"),
    [
        (make_pipeline(StandardScaler(), LogisticRegression()), ["model.skops"]),
        (DecisionTreeClassifier(), ["model.pkl"]),
        (KNeighborsClassifier(1), ["model.pkl"]),
    ],
    ids=["pipeline", "tree, which skops does not trust", "tree of neighbours, which skops can't hold"],
)
def test_the_format_is_skops_where_that_can_hold_the_estimator(
    estimator: Any, files: list[str], store: ModelStore
) -> None:
    exported = export(estimator.fit(X, Y), X, name="m", store=store)

    assert [path.name for path in Path(exported.location).glob("model.*")] == files
    assert exported.manifest.artifact.file == files[0]


def test_more_features_than_a_manifest_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.data.table.FEATURES_MAX", 1)

    with pytest.raises(NotExportable, match="it has 2 features, and a model has at most 1"):
        export(LogisticRegression().fit(X, Y), X, Y, name="wide", store=tmp_path / "models")
    assert not (tmp_path / "models").exists()


LONG = "x" * (LABEL_MAX - 1)


def of_classes(ending: str) -> tuple[Any, Any, Any]:
    classes = np.array([LONG + ending, "b"] * 4)
    return LogisticRegression().fit(X, classes), X, classes


def of_categories(ending: str) -> tuple[Any, Any, Any]:
    rows = pd.DataFrame({"plan": pd.Categorical([LONG + ending, "b"] * 4)})
    return make_pipeline(OneHotEncoder(), LogisticRegression()).fit(rows, Y), rows, Y


def of_unused_columns(ending: str) -> tuple[Any, Any, Any]:
    rows = pd.DataFrame({"a": X[:, 0], LONG + ending: 0.0})
    return make_pipeline(VarianceThreshold(), LogisticRegression()).fit(rows, Y), rows, Y


def of_outputs(ending: str) -> tuple[Any, Any, Any]:
    targets = pd.DataFrame(X, columns=["a", "x" * (NAME_MAX - 1) + ending])
    return LinearRegression().fit(X, targets), X, targets


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (of_classes, "a class of more than 1,024 characters"),
        (of_categories, "column 'plan' has a category of more than 1,024 characters"),
        (of_unused_columns, "column name 'x+'… has more than 1,024 characters"),
        (of_outputs, "the name 'x+'… of an output has not 1 to 128 characters"),
    ],
)
def test_texts_are_exported_up_to_the_lengths_of_a_manifest(
    make: Callable[[str], tuple[Any, Any, Any]], complaint: str, store: ModelStore
) -> None:
    with pytest.raises(NotExportable, match=complaint):
        export(*make("xx"), name="long", store=store)
    assert store.names() == []

    assert export(*make("x"), name="long", store=store).manifest
