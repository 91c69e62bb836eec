import hashlib
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV, TunedThresholdClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from headrace.errors import NotExportable
from headrace.exporting.artifact import served_copy, store_estimator
from training.dataset import Dataset


def greedy_forest() -> RandomForestClassifier:
    return RandomForestClassifier(n_estimators=2, n_jobs=2, random_state=0)


def test_the_digest_and_size_are_those_of_the_file(fitted: LogisticRegression, tmp_path: Path) -> None:
    artifact, _ = store_estimator(fitted, tmp_path, format="joblib")

    content = (tmp_path / artifact.file).read_bytes()
    assert artifact.file == "model.pkl"
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()
    assert artifact.size_bytes == len(content)


def test_a_written_estimator_asks_for_one_job_and_the_original_is_untouched(iris: Dataset, tmp_path: Path) -> None:
    forest = greedy_forest().fit(iris.rows, iris.targets)

    store_estimator(forest, tmp_path, format="joblib")

    assert joblib.load(tmp_path / "model.pkl").n_jobs == 1
    assert forest.n_jobs == 2


@pytest.mark.parametrize(
    ("whole", "inner"),
    [
        (make_pipeline(StandardScaler(), greedy_forest()), lambda whole: whole[-1]),
        (VotingClassifier([("forest", greedy_forest())]), lambda whole: whole.estimators_[0]),
        (
            GridSearchCV(make_pipeline(greedy_forest()), {"randomforestclassifier__max_depth": [1]}, cv=2),
            lambda whole: whole.best_estimator_[-1],
        ),
    ],
    ids=["pipeline", "ensemble", "search"],
)
def test_parts_inside_of_other_estimators_ask_for_one_job_too(whole: Any, inner: Any, iris: Dataset) -> None:
    whole.fit(iris.rows, iris.targets)

    assert inner(served_copy(whole)).n_jobs == 1


def test_a_frozen_search_is_stored_without_its_scorer_and_asks_for_one_job(iris: Dataset, tmp_path: Path) -> None:
    search = GridSearchCV(greedy_forest(), {"max_depth": [1]}, cv=2, scoring="accuracy").fit(iris.rows, iris.targets)

    store_estimator(FrozenEstimator(search), tmp_path, format="joblib")

    frozen = joblib.load(tmp_path / "model.pkl")
    assert vars(frozen).keys() == {"estimator"}
    assert frozen.estimator.best_estimator_.n_jobs == 1
    assert not hasattr(frozen.estimator, "scorer_")
    assert list(frozen.predict(iris.rows[:3])) == list(search.predict(iris.rows[:3]))


def test_an_estimator_that_leaves_its_jobs_open_keeps_them_open(fitted: LogisticRegression) -> None:
    assert served_copy(fitted).n_jobs is None


def test_estimators_that_hold_each_other_are_walked_once() -> None:
    one, other = BaseEstimator(), BaseEstimator()
    one.partner, other.partner = other, one
    other.n_jobs = -1

    assert served_copy(one).partner.n_jobs == 1


@pytest.mark.parametrize("scoring", ["roc_auc_ovr", make_scorer(accuracy_score), ["accuracy", "f1_macro"]])
def test_searches_are_stored_without_their_scorers(scoring: Any, iris: Dataset, tmp_path: Path) -> None:
    search = GridSearchCV(
        LogisticRegression(),
        {"C": [0.5]},
        scoring=scoring,
        cv=2,
        refit="accuracy" if isinstance(scoring, list) else True,
    )
    search.fit(iris.rows, iris.targets)

    _, stored = store_estimator(search, tmp_path, format="joblib")

    assert not hasattr(stored, "scorer_")
    assert stored.predict(iris.rows).tolist() == search.predict(iris.rows).tolist()
    assert hasattr(search, "scorer_")


def test_a_pipeline_is_stored_without_its_cache(iris: Dataset, tmp_path: Path) -> None:
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(), memory=str(tmp_path / "cache"))
    pipeline.fit(iris.rows, iris.targets)

    _, stored = store_estimator(pipeline, tmp_path, format="joblib")

    assert stored.memory is None
    assert pipeline.memory == str(tmp_path / "cache")


def test_what_holds_a_scorer_to_predict_is_refused_with_a_remedy(iris: Dataset, tmp_path: Path) -> None:
    tuned = TunedThresholdClassifierCV(LogisticRegression(), cv=2).fit(iris.rows[:100], iris.targets[:100] == "setosa")

    with pytest.raises(NotExportable, match=r"_CurveScorer.*export a FixedThresholdClassifier"):
        store_estimator(tuned, tmp_path, format="joblib")


@pytest.mark.parametrize("chosen", ["joblib", "skops"])
def test_what_is_trusted_by_default_is_read_back(chosen: Any, fitted: LogisticRegression, tmp_path: Path) -> None:
    artifact, stored = store_estimator(fitted, tmp_path, format=chosen)

    assert (artifact.format, type(stored)) == (chosen, type(fitted))
