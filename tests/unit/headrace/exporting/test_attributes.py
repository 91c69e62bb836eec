"""Attributes of estimators that hold anything: each is refused with an error that names it, or does no harm."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, ClusterMixin, RegressorMixin
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectKBest
from sklearn.pipeline import Pipeline

from headrace import NotExportable, export
from headrace.data import attributes
from headrace.data.predictions import has_probabilities, predict
from headrace.data.unused import dropped_columns
from headrace.exporting.artifact import served_copy
from headrace.models.store import ModelStore

X = np.random.default_rng(0).normal(size=(24, 2))
FRAME = pd.DataFrame(X, columns=["u", "v"])
NAMES = np.array(["low", "high"])


class Opaque:
    """An object whose every protocol raises."""

    __hash__ = None  # type: ignore[assignment]

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no array")

    def __iter__(self) -> Any:
        raise RuntimeError("no items")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __bool__(self) -> bool:
        raise RuntimeError("neither true nor false")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no equality")

    def __repr__(self) -> str:
        raise RuntimeError("no text")


class Plain(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A classifier that uses none of its attributes."""

    def __init__(self, n_jobs: Any = None) -> None:
        self.n_jobs = n_jobs

    def fit(self, *_: Any) -> "Plain":
        """Learn nothing."""
        self.classes_ = NAMES
        return self

    def predict(self, rows: Any) -> Any:
        """Return the class by the sign of the first number."""
        return NAMES[(np.asarray(rows)[:, 0] > 0).astype(int)]

    def predict_proba(self, rows: Any) -> Any:
        """Return the probabilities of low and high."""
        high = (np.asarray(rows)[:, 0] > 0).astype(float)
        return np.column_stack([1 - high, high])


class Clusters(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Two clusters by the sign of the first number."""

    def predict(self, rows: Any) -> Any:
        """Return the numbers of the clusters."""
        return (np.asarray(rows)[:, 0] > 0).astype(int)


class Amounts(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A regressor that answers the first number."""

    def predict(self, rows: Any) -> Any:
        """Return the first column."""
        return np.asarray(rows)[:, 0]


ABSURD: dict[str, Any] = {
    "a number": 5,
    "a text": "abc",
    "no values": [],
    "lists of different lengths": [["a"], ["b", "c"]],
    "a matrix": np.zeros((2, 2)),
    "a lone value": np.array(3),
    "a dictionary": {"a": 1},
    "an opaque object": Opaque(),
    "an object": object(),
    "dictionaries": [{}, {}],
    "a text twice": ["low", "low"],
    "a class": int,
    "a function": len,
    "a huge number": 10**30,
    "a number below 0": -1,
    "nothing twice": [None, None],
    "dates": np.array(["2020-01-01", "2021-01-01"], "M8[D]"),
    "NaN": np.array([np.nan, 1.0]),
}

NUMBERS = ("a number", "a lone value", "a huge number")
FINE = {"labels_": ("no values",), "n_features_in_": NUMBERS}
"""Attribute -> the values that are not absurd for it."""

ABSURD_FOR = [
    (name, shape)
    for name in ("classes_", "feature_names_in_", "labels_", "n_features_in_")
    for shape in ABSURD
    if shape not in FINE.get(name, ())
]


def fitted(**changes: Any) -> Any:
    """Return a classifier, or clusters if they have labels, with other attributes."""
    estimator: Any = Clusters() if "labels_" in changes else Plain().fit()
    estimator.__dict__.update(changes)
    return estimator


def fitted_answers(**answers: Any) -> Any:
    """Return a classifier with functions in the place of its answers."""
    estimator = Answers().fit()
    estimator.__dict__.update(answers)
    return estimator


def refusal(estimator: Any, store: ModelStore, rows: Any = X) -> str:
    """Return the text of the refusal, which leaves nothing in the store."""
    with pytest.raises(NotExportable) as caught:
        export(estimator, rows, name="m", store=store, extra_modules="tests")
    assert store.names() == []
    return str(caught.value)


@pytest.mark.parametrize(("name", "shape"), ABSURD_FOR, ids=[" of ".join(each[::-1]) for each in ABSURD_FOR])
def test_an_attribute_of_another_form_is_named(name: str, shape: str, store: ModelStore) -> None:
    text = refusal(fitted(**{name: ABSURD[shape]}), store)

    # Classes of a good form are refused by their types.
    named = (f"its attribute {name} can't be used: ", *(["its classes must be texts"] if name == "classes_" else []))
    assert text.startswith(named)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"feature_names_in_": np.array(["u"], dtype=object)}, "feature_names_in_ .*it has 1 names, and X has 2 col"),
        ({"feature_names_in_": ["u", "v"], "n_features_in_": 3}, "it has 2 names, and n_features_in_ is 3"),
        ({"feature_names_in_": ["u", 2]}, "its names are not all texts"),
        ({"feature_names_in_": ["u", "u"]}, "some of its values repeat"),
        ({"classes_": ["low", "high", "none"]}, "it has 3 classes, and predict_proba 2 columns"),
        ({"classes_": [NAMES, NAMES]}, "it has the classes of 2 outputs, and there are 1"),
        ({"labels_": ["a", "b"]}, "labels_ .*it holds values of other types than the predictions"),
        ({"n_jobs": Opaque(), "note": Opaque()}, "attribute __repr__ can't be used: it raises RuntimeError: no text"),
    ],
)
def test_attributes_that_contradict_others_are_named(
    changes: dict[str, Any], complaint: str, store: ModelStore
) -> None:
    with pytest.raises(NotExportable, match=complaint):
        export(fitted(**changes), X, name="m", store=store, extra_modules="tests", format="joblib")


def raising(name: str, base: type = Plain) -> Any:
    """Return an estimator whose attribute raises when it is read."""

    def read(_: Any) -> Any:
        raise RuntimeError("it is not there")

    kind = type("Raising", (base,), {name: property(read, lambda *_: None), "__module__": __name__})
    return object.__new__(kind)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("classes_", Plain),
        ("feature_names_in_", Plain),
        ("n_features_in_", Plain),
        ("__sklearn_tags__", Plain),
        ("predict", Plain),
        ("steps", Clusters),
        ("cluster_centers_", Clusters),
        ("weights_", Clusters),
        ("labels_", Clusters),
    ],
)
def test_an_attribute_that_raises_is_named(name: str, base: type, store: ModelStore) -> None:
    text = refusal(raising(name, base), store)

    assert text == f"its attribute {name} can't be used: it raises RuntimeError: it is not there"


PARTS: dict[str, Callable[[], Any]] = {
    "transformers_": lambda: ColumnTransformer([("a", "passthrough", ["u"])]).fit(FRAME),
    "get_support": lambda: SelectKBest(k=1).fit(X, X[:, 0] > 0),
}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("value", [None, 5, [("a",)], Opaque()], ids=["none", "number", "tuples", "opaque"])
def test_attributes_by_which_columns_are_dropped_are_named(name: str, value: Any) -> None:
    step = PARTS[name]()
    setattr(step, name, value)

    with pytest.raises(NotExportable, match=f"^its attribute {name} can't be used: "):
        dropped_columns(Pipeline([("step", step), ("model", Plain().fit())]), FRAME)


@pytest.mark.parametrize("categories", [5, Opaque(), [[1], [{}]], np.array(3)], ids=["5", "opaque", "dicts", "lone"])
def test_categories_that_are_none_are_named(categories: Any, store: ModelStore) -> None:
    # Read back from the artifact, which can't hold some of these.
    with pytest.raises(NotExportable, match=r"categories_|can't be stored"):
        export(fitted(categories_=categories), X, name="m", store=store, extra_modules="tests", format="joblib")


@pytest.mark.parametrize("categories", [None, [1.5, 2.5], ["a"], {"u": ["a"]}])
def test_categories_of_another_form_do_no_harm(categories: Any, store: ModelStore) -> None:
    exported = export(fitted(categories_=categories), X, name="m", store=store, extra_modules="tests")

    assert [output.classes for output in exported.manifest.outputs] == [["low", "high"]]


@pytest.mark.parametrize("jobs", [np.zeros((2, 2)), np.array([1, 2]), 1.5, 8, True])
def test_any_number_of_jobs_becomes_one(jobs: Any) -> None:
    assert served_copy(Plain(jobs)).n_jobs in (1, True)


class Answers(Plain):
    """A classifier that answers what it was given."""

    def predict(self, rows: Any) -> Any:
        """Return the answer for so many rows."""
        return self.answer(len(rows)) if hasattr(self, "answer") else super().predict(rows)

    def predict_proba(self, rows: Any) -> Any:
        """Return the shares for so many rows."""
        return self.shares(len(rows)) if hasattr(self, "shares") else super().predict_proba(rows)


def objects(value: Any, *shape: int) -> Any:
    """Return an array that holds an object everywhere."""
    array = np.empty(shape, dtype=object)
    for at in np.ndindex(shape):
        array[at] = value
    return array


ANSWERS: dict[str, tuple[Callable[[int], Any], str]] = {
    "opaque": (lambda _: Opaque(), "it can't predict its own training rows: RuntimeError: no array"),
    "dictionaries": (lambda n: objects({}, n), "it predicts a dict, which is no value of JSON"),
    "lists": (lambda n: objects([1], n), "it predicts a list, which is no value of JSON"),
    "opaque objects": (lambda n: objects(Opaque(), n), "it predicts a Opaque, which is no value of JSON"),
    "wide": (lambda n: objects({}, n, 2), "it predicts a dict, which is no value of JSON"),
    "none": (lambda _: None, "its predictions have shape () for 24 rows"),
    "too few": (lambda _: NAMES[:1], r"its predictions have shape (1,) for 24 rows"),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("with_classes", [True, False])
def test_answers_that_are_no_values_are_refused(answer: str, with_classes: bool, store: ModelStore) -> None:
    make, text = ANSWERS[answer]
    estimator = fitted_answers(answer=make)
    if not with_classes:
        del estimator.classes_

    assert refusal(estimator, store) == text


@pytest.mark.parametrize(
    "shares",
    [
        lambda _: Opaque(),
        lambda n: objects({}, n, 2),
        lambda n: np.full((n, 2), "a"),
        lambda n: np.ones((n, 2)) * 1j,
        lambda n: np.full((n, 2), np.nan),
        lambda n: np.full(n, 0.5),
    ],
    ids=["opaque", "dictionaries", "texts", "complex", "NaN", "one each"],
)
def test_shares_that_are_no_probabilities_are_left_out(shares: Any) -> None:
    assert not has_probabilities(fitted_answers(shares=shares), X, [["low", "high"]])


def test_probabilities_of_fewer_rows_are_refused() -> None:
    with pytest.raises(NotExportable, match=r"its probabilities have shape \(3, 2\) for 24 rows"):
        predict(fitted_answers(shares=lambda _: np.full((3, 2), 0.5)), X, probabilities=True)


def test_a_regressor_may_have_any_classes(store: ModelStore) -> None:
    estimator = Amounts()
    estimator.classes_ = 5

    assert export(estimator, X, name="m", store=store, extra_modules="tests").manifest.outputs[0].classes is None


@pytest.mark.parametrize(
    "steps", [None, 5, [], ["a"], [("a",)], Opaque()], ids=["none", "number", "empty", "text", "name", "opaque"]
)
def test_steps_that_are_none_are_named(steps: Any, store: ModelStore) -> None:
    pipeline = Pipeline([("model", Plain().fit())])
    pipeline.steps = steps

    assert refusal(pipeline, store).startswith("its attribute steps can't be used: ")


def test_attributes_that_are_none_are_absent() -> None:
    estimator = fitted(classes_=None, feature_names_in_=None, n_features_in_=None)

    attributes.check_attributes(estimator)
    assert attributes.fitted_names(estimator) is None and attributes.fitted_classes(estimator) is None


def test_classes_of_several_outputs_are_those_of_each() -> None:
    for classes in ([NAMES, np.array([1, 2, 3])], [["low", "high"], [1, 2, 3]], (NAMES, np.array([1, 2, 3]))):
        assert attributes.fitted_classes(fitted(classes_=classes)) == [["low", "high"], [1, 2, 3]]


def test_the_store_is_left_as_it_was(tmp_path: Path) -> None:
    refusal(fitted(classes_=5), ModelStore(tmp_path / "new"))

    assert not (tmp_path / "new").exists()
