"""Fitted estimators of every kind that can be served, with the rows and targets that they were fitted on."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn import datasets
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC


@dataclass(frozen=True, eq=False)
class Case:
    """A fitted estimator with the rows `X` and targets `y` of its fit, in the form in which they were passed."""

    estimator: Any
    X: Any
    y: Any = None


def people(rows: int = 120, *, seed: int = 0) -> tuple[Any, Any]:
    """Return a frame of numbers, texts and booleans, all of them sometimes missing, and a target (text)."""
    random = np.random.default_rng(seed)
    age = random.integers(18, 80, rows)
    income = random.lognormal(10, 0.5, rows).round(2)
    city = random.choice(["Berlin", "Lyon", "Oslo", "Porto"], rows, p=[0.5, 0.3, 0.15, 0.05])
    member = random.random(rows) < 0.4
    owner = random.random(rows) < 0.5
    target = np.where(member ^ (age > 45) ^ (city == "Lyon"), "stays", "leaves")
    frame = pd.DataFrame(
        {
            "age": age,
            "income": np.where(random.random(rows) < 0.1, np.nan, income),
            "city": [None if gap else text for gap, text in zip(random.random(rows) < 0.1, city.tolist(), strict=True)],
            "plan": pd.Categorical(random.choice(["free", "plus", "pro"], rows)),
            "member": member,
            "owner": pd.array(
                [None if gap else value for gap, value in zip(random.random(rows) < 0.1, owner.tolist(), strict=True)],
                dtype="boolean",
            ).astype(object),
        }
    )
    frame["owner"] = frame["owner"].where(frame["owner"].notna(), None)
    return frame, pd.Series(target, name="outcome")


def reviews() -> tuple[Any, Any]:
    """Return a frame with a column of prose and one of numbers, and a boolean target."""
    good = ["a fine read", "lovely and short", "I would read it again", "fine words, fine print"]
    bad = ["dull", "a dull and long read", "I gave up", "long words and no end"]
    frame = pd.DataFrame({"text": (good + bad) * 5, "pages": list(range(100, 140))})
    return frame, np.array(([True] * 4 + [False] * 4) * 5)


def _iris_text() -> tuple[Any, Any]:
    bunch = datasets.load_iris()
    return bunch.data, bunch.target_names[bunch.target]


def _wine() -> tuple[Any, Any]:
    X, y = datasets.load_wine(return_X_y=True)
    return X, y


def _wine_frame() -> tuple[Any, Any]:
    bunch = datasets.load_wine(as_frame=True)
    return bunch.data, bunch.target


def _cancer_boolean() -> tuple[Any, Any]:
    X, y = datasets.load_breast_cancer(return_X_y=True)
    return X[:200], y[:200] == 0


def _digits() -> tuple[Any, Any]:
    X, y = datasets.load_digits(return_X_y=True)
    return X[:300], y[:300]


def _diabetes() -> tuple[Any, Any]:
    X, y = datasets.load_diabetes(return_X_y=True)
    return X[:200], y[:200]


def _with_gaps(X: Any) -> Any:
    gaps = np.random.default_rng(0).random(X.shape) < 0.1
    return np.where(gaps, np.nan, X)


def _fit(estimator: Any, data: tuple[Any, Any]) -> Case:
    X, y = data
    with warnings.catch_warnings():
        # Small networks on few rows warn that they don't converge, which does not matter here.
        warnings.simplefilter("ignore")
        return Case(estimator.fit(X, y), X, y)


def _unsupervised(estimator: Any, X: Any) -> Case:
    return Case(estimator.fit(X), X)


def _mixed_pipeline(final: Any) -> Any:
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    categories = OneHotEncoder(handle_unknown="ignore")
    columns = ColumnTransformer(
        [
            ("numbers", numbers, ["age", "income"]),
            ("categories", categories, ["city", "plan", "member", "owner"]),
        ]
    )
    return make_pipeline(columns, final)


def _two_targets_text() -> tuple[Any, Any]:
    X, y = datasets.load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])
    sizes = np.where(X[:, 0] > 5.8, "long", "short")
    return X, pd.DataFrame({"species": names[y], "size": sizes})


def _two_targets_numbers() -> tuple[Any, Any]:
    X, y = _diabetes()
    return X, np.column_stack([y, -2 * y + X[:, 0]])


def _labels() -> tuple[Any, Any]:
    X, y = datasets.make_multilabel_classification(n_samples=80, n_classes=3, n_features=5, random_state=0)
    return X, y


def _texts(form: Callable[[Any], Any]) -> Case:
    frame, good = reviews()
    return _fit(make_pipeline(TfidfVectorizer(), LogisticRegression()), (form(frame["text"]), good))


def _boosting_by_dtype() -> Case:
    frame, _ = people()
    X = frame[["age", "income", "plan"]]
    estimator = HistGradientBoostingRegressor(max_iter=5, categorical_features="from_dtype")
    return _fit(estimator, (X, frame["age"].to_numpy() * 1.5))


CASES: dict[str, Callable[[], Case]] = {
    "logistic regression": lambda: _fit(LogisticRegression(max_iter=1000), _iris_text()),
    "svc without probabilities": lambda: _fit(SVC(), _iris_text()),
    "linear svc": lambda: _fit(make_pipeline(StandardScaler(), LinearSVC()), _wine()),
    "forest of integer classes": lambda: _fit(RandomForestClassifier(10, n_jobs=2, random_state=0), _digits()),
    "forest of boolean classes": lambda: _fit(RandomForestClassifier(10, random_state=0), _cancer_boolean()),
    "boosting with gaps": lambda: _fit(
        HistGradientBoostingClassifier(max_iter=5, random_state=0), (_with_gaps(_wine()[0]), _wine()[1])
    ),
    "boosting by dtype": _boosting_by_dtype,
    "nearest neighbours": lambda: _fit(KNeighborsClassifier(), _digits()),
    "naive bayes": lambda: _fit(GaussianNB(), _wine()),
    "neural network": lambda: _fit(MLPClassifier((8,), max_iter=20, random_state=0), _iris_text()),
    "labels of a neural network": lambda: _fit(MLPClassifier((8,), max_iter=20, random_state=0), _labels()),
    "ridge": lambda: _fit(Ridge(), _diabetes()),
    "forest of numbers": lambda: _fit(RandomForestRegressor(10, random_state=0), _diabetes()),
    "frame of numbers": lambda: _fit(make_pipeline(StandardScaler(), LogisticRegression()), _wine_frame()),
    "several numbers": lambda: _fit(MultiOutputRegressor(Ridge()), _two_targets_numbers()),
    "several classes": lambda: _fit(MultiOutputClassifier(LogisticRegression(max_iter=1000)), _two_targets_text()),
    "several classes of a forest": lambda: _fit(RandomForestClassifier(5, random_state=0), _two_targets_text()),
    "clusters": lambda: _unsupervised(KMeans(3, n_init=1, random_state=0), _iris_text()[0]),
    "mixture": lambda: _unsupervised(GaussianMixture(3, random_state=0), _iris_text()[0]),
    "isolation forest": lambda: _unsupervised(IsolationForest(n_estimators=10, random_state=0), _diabetes()[0]),
    "local outliers": lambda: _unsupervised(LocalOutlierFactor(novelty=True), _iris_text()[0]),
    "mixed frame": lambda: _fit(_mixed_pipeline(LogisticRegression(max_iter=1000)), people()),
    "mixed frame by dtype": lambda: _fit(
        make_pipeline(
            ColumnTransformer(
                [
                    ("numbers", SimpleImputer(), make_column_selector(dtype_include="number")),
                    ("others", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-2), ["city", "plan"]),
                ]
            ),
            RandomForestClassifier(10, random_state=0),
        ),
        people(),
    ),
    "prose": lambda: _fit(
        make_pipeline(
            ColumnTransformer([("text", TfidfVectorizer(), "text")], remainder="passthrough"),
            LogisticRegression(max_iter=1000),
        ),
        reviews(),
    ),
    "texts of a series": lambda: _texts(pd.Series),
    "texts of a list": lambda: _texts(list),
    "classifier chain": lambda: _fit(ClassifierChain(LogisticRegression()), _labels()),
    "vote": lambda: _fit(
        VotingClassifier([("bayes", GaussianNB()), ("tree", RandomForestClassifier(5, random_state=0))], voting="soft"),
        _wine(),
    ),
    "calibrated svc": lambda: _fit(CalibratedClassifierCV(LinearSVC(), cv=2), _iris_text()),
    "grid search": lambda: _fit(
        GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": [0.1, 1.0]}, cv=2), _wine()
    ),
}
"""Name -> a function that fits the case, each in well below a second."""
