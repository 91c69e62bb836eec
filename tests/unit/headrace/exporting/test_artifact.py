import hashlib
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from headrace.exporting.artifact import single_threaded, write_artifact
from training.dataset import Dataset


def greedy_forest() -> RandomForestClassifier:
    return RandomForestClassifier(n_estimators=2, n_jobs=2, random_state=0)


def test_the_digest_and_size_are_those_of_the_file(fitted: LogisticRegression, tmp_path: Path) -> None:
    artifact = write_artifact(fitted, tmp_path)

    content = (tmp_path / artifact.file).read_bytes()
    assert artifact.file == "model.pkl"
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()
    assert artifact.size_bytes == len(content)


def test_a_written_estimator_asks_for_one_job_and_the_original_is_untouched(iris: Dataset, tmp_path: Path) -> None:
    forest = greedy_forest().fit(iris.rows, iris.targets)

    write_artifact(forest, tmp_path)

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

    assert inner(single_threaded(whole)).n_jobs == 1


def test_an_estimator_that_leaves_its_jobs_open_keeps_them_open(fitted: LogisticRegression) -> None:
    assert single_threaded(fitted).n_jobs is None


def test_estimators_that_hold_each_other_are_walked_once() -> None:
    one, other = BaseEstimator(), BaseEstimator()
    one.partner, other.partner = other, one
    other.n_jobs = -1

    assert single_threaded(one).partner.n_jobs == 1
