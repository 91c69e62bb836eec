"""Estimators and rows beyond the usual ones: texts alone, classes written as floats, classes without scikit-learn."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import ClassifierChain
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from headrace import NotExportable, export
from headrace.exporting.verify import verify
from headrace.models.store import ModelStore
from worker.model.allow_list import AllowList
from worker.model.predictor import Predictor

OURS = AllowList(modules=frozenset(["tests"]))
TEXTS = ["good and fine", "lovely", "bad", "dull and bad"] * 5
MOODS = ["+", "+", "-", "-"] * 5
X = np.random.default_rng(0).random((40, 3))
Y = (X[:, :2] > 0.5).astype(int)


class Threshold:
    """A class that has `fit` and `predict`, and knows nothing of scikit-learn."""

    def __init__(self, answers: Any) -> None:
        self.answers = answers

    def fit(self, rows: Any, targets: Any = None) -> "Threshold":
        return self

    def predict(self, rows: Any) -> Any:
        return np.asarray(self.answers)[(np.asarray(rows)[:, 0] > 0.5).astype(int)]


class Classes(Threshold):
    """A threshold with `classes_`."""

    def fit(self, rows: Any, targets: Any = None) -> "Classes":
        self.classes_ = np.unique(targets)
        return self


def lower(texts: Any) -> Any:
    return texts.str.lower()


def served(store: ModelStore, estimator: Any, rows: Any, *args: Any, **options: Any) -> Predictor:
    exported = export(estimator, rows, *args, name="m", store=store, extra_modules="tests", **options)
    assert verify(store, exported.manifest, trusted_modules=["tests"]) >= 2
    return Predictor.load(store, exported.manifest, OURS)


def mood() -> Any:
    return make_pipeline(TfidfVectorizer(), LogisticRegression())


@pytest.mark.parametrize(
    ("rows", "form", "name"),
    [
        (pd.Series(TEXTS), "series", "text"),
        (pd.Series(TEXTS, dtype=object, name="review"), "series", "review"),
        (pd.Series(TEXTS, dtype="string", index=range(5, 25)), "series", "text"),
        (TEXTS, "texts", "text"),
        (tuple(TEXTS), "texts", "text"),
        (np.array(TEXTS), "texts", "text"),
    ],
    ids=["series", "named series", "string series", "list", "tuple", "array"],
)
def test_texts_alone_are_one_feature(rows: Any, form: str, name: str, store: ModelStore) -> None:
    estimator = mood().fit(rows, MOODS)

    predictor = served(store, estimator, rows, MOODS)

    manifest = predictor.manifest
    assert (manifest.input, [(each.name, each.type) for each in manifest.features]) == (form, [(name, "string")])
    answer = predictor.predict([["lovely and fine"], ["dull"], ["never seen"]])
    assert answer.predictions == estimator.predict(["lovely and fine", "dull", "never seen"]).tolist()


def test_a_step_may_use_what_a_series_can(store: ModelStore) -> None:
    estimator = make_pipeline(FunctionTransformer(lower), CountVectorizer(lowercase=False), LogisticRegression())
    rows = pd.Series([text.title() for text in TEXTS])

    predictor = served(store, estimator.fit(rows, MOODS), rows, feature_names=["body"])

    assert predictor.manifest.features[0].name == "body"
    assert predictor.predict([["BAD"]]).predictions == ["-"]
    with pytest.raises(NotExportable, match="are not the name of one column of texts"):
        served(store, estimator, rows, feature_names=["body", "title"])


@pytest.mark.parametrize("classes", [int, bool, float])
def test_classes_that_are_predicted_as_floats_are_answered_in_their_type(classes: type, store: ModelStore) -> None:
    targets: Any = Y.astype(classes)
    chain = ClassifierChain(LogisticRegression()).fit(X, targets)

    predictor = served(store, chain, X, targets)

    expected = int if classes is float else classes
    assert [output.classes for output in predictor.manifest.outputs] == [[expected(0), expected(1)]] * 2
    answer = predictor.predict(X[:5].tolist())
    assert answer.predictions == Y[:5].astype(expected).tolist()
    assert {type(each) for row in answer.predictions for each in row} == {expected}
    assert {type(each) for sample in predictor.manifest.samples for each in sample.prediction} == {expected}  # type: ignore[union-attr]


def test_whole_float_classes_keep_their_probabilities(store: ModelStore) -> None:
    tree = DecisionTreeClassifier(max_depth=2).fit(X, Y[:, 0].astype(float))

    predictor = served(store, tree, X, Y[:, 0].astype(float))

    assert predictor.manifest.outputs[0].classes == [0, 1]
    answer = predictor.predict(X[:5].tolist())
    assert [(each, type(each)) for each in answer.predictions] == [(each, int) for each in Y[:5, 0].tolist()]
    assert answer.probabilities == tree.predict_proba(X[:5]).tolist()


@pytest.mark.parametrize(
    ("estimator", "classes"),
    [
        (Threshold(["no", "yes"]), ["no", "yes"]),
        (Threshold([False, True]), [False, True]),
        (Threshold([1.5, 2.5]), None),
        (Classes([3, 4]).fit(X, [3, 4, 5]), [3, 4, 5]),
    ],
    ids=["texts", "booleans", "numbers", "classes_"],
)
def test_a_class_without_scikit_learn_is_served_by_what_it_predicts(
    estimator: Threshold, classes: list[Any] | None, store: ModelStore
) -> None:
    predictor = served(store, estimator, X)

    assert predictor.manifest.outputs[0].classes == classes
    assert predictor.predict(X[:5].tolist()).predictions == estimator.predict(X[:5]).tolist()
