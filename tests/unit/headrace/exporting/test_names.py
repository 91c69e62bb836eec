"""A frame is exported only if the estimator finds in it the columns that it was fitted on."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from headrace import NotExportable, export
from headrace.exporting.exported import Exported

FRAME = pd.DataFrame(np.random.default_rng(0).random((60, 3)), columns=list("abc"))
SAYS = np.where(FRAME["a"] > 0.5, "high", "low")


def unnamed(frame: Any) -> Any:
    return np.asarray(frame)


class Polars:
    """A frame that is not of pandas."""

    def __init__(self, frame: Any) -> None:
        self.columns = list(frame.columns)
        self.values = frame.to_numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(self.values, dtype=dtype)


class Checks(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """A classifier that refuses frames of other names, and takes any array without a warning, as XGBoost does."""

    def fit(self, frame: Any, targets: Any) -> "Checks":
        self.feature_names_in_, self.classes_ = np.asarray(frame.columns, dtype=object), np.unique(targets)
        return self

    def predict(self, rows: Any) -> Any:
        if isinstance(rows, pd.DataFrame) and list(rows.columns) != list(self.feature_names_in_):
            raise ValueError("feature_names mismatch")
        return self.classes_[(np.asarray(rows)[:, 0] <= 0.5).astype(int)]


def logistic() -> Any:
    return LogisticRegression(C=100)


def by_name() -> Any:
    return make_pipeline(ColumnTransformer([("used", StandardScaler(), ["a", "b"])]), logistic())


ESTIMATORS: dict[str, Callable[[], Any]] = {
    "estimator": logistic,
    "pipeline": lambda: make_pipeline(StandardScaler(), logistic()),
    "nested": lambda: make_pipeline("passthrough", make_pipeline(None, StandardScaler()), logistic()),
    "search": lambda: GridSearchCV(make_pipeline(StandardScaler(), logistic()), {}, cv=2),
    "search of no names": lambda: GridSearchCV(make_pipeline("passthrough", logistic()), {}, cv=2),
    "vote": lambda: VotingClassifier([("one", logistic())]),
    "calibrated": lambda: CalibratedClassifierCV(logistic(), cv=2),
    "function that forgets names": lambda: make_pipeline(FunctionTransformer(unnamed), logistic()),
    "no warning": Checks,
}


def exported(tmp_path: Path, estimator: Any, rows: Any, **options: Any) -> Exported:
    return export(estimator, rows, name="m", store=tmp_path, extra_modules=["tests"], **options)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_columns_of_another_order_are_refused(tmp_path: Path, kind: str) -> None:
    estimator = ESTIMATORS[kind]().fit(FRAME, SAYS)
    reason = r"order is another, column 0 is 'c' and was 'a'\. Pass X\[list\(estimator\.feature_names_in_\)\]"
    if kind == "search of no names":
        reason = "names must be in the same order"

    with pytest.raises(NotExportable, match=reason):
        exported(tmp_path, estimator, FRAME[["c", "b", "a"]])

    assert not (tmp_path / "m").exists()
    assert [each.name for each in exported(tmp_path, estimator, FRAME).manifest.features] == ["a", "b", "c"]


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_renamed_columns_are_refused(tmp_path: Path, kind: str) -> None:
    estimator = ESTIMATORS[kind]().fit(FRAME, SAYS)
    reason = "no column 'a', and has a column 'z'" if kind != "search of no names" else "unseen at fit time"

    with pytest.raises(NotExportable, match=reason):
        exported(tmp_path, estimator, FRAME.rename(columns={"a": "z"}))


def test_frames_of_other_libraries_have_names_too(tmp_path: Path) -> None:
    estimator = logistic().fit(FRAME, SAYS)

    with pytest.raises(NotExportable, match="column 0 is 'c' and was 'a'"):
        exported(tmp_path, estimator, Polars(FRAME[["c", "b", "a"]]))

    assert [each.name for each in exported(tmp_path, estimator, Polars(FRAME)).manifest.features] == ["a", "b", "c"]


def test_columns_too_many_or_without_names_are_refused(tmp_path: Path) -> None:
    estimator = logistic().fit(FRAME, SAYS)

    with pytest.raises(NotExportable, match=r"a column 'd', which was not there\. Pass X\[list"):
        exported(tmp_path, estimator, FRAME.assign(d=1.0))
    with pytest.raises(NotExportable, match="no column 'a', and has a column 0"):
        exported(tmp_path, estimator, FRAME.set_axis(range(3), axis="columns"))


@pytest.mark.parametrize("columns", ["cba", "ba", "dbca"])
def test_columns_that_are_found_by_name_may_have_any_order(tmp_path: Path, columns: str) -> None:
    estimator = by_name().fit(FRAME, SAYS)

    manifest = exported(tmp_path, estimator, FRAME.assign(d="text")[list(columns)]).manifest

    assert (manifest.input, [each.name for each in manifest.features]) == ("frame", ["b", "a"])
    for sample in manifest.samples:
        row = pd.DataFrame([dict(zip("ba", sample.row, strict=True), c=0.0)])[["a", "b", "c"]]
        assert estimator.predict(row).tolist() == [sample.prediction]


def test_a_column_that_a_transformer_needs_can_not_be_left_out(tmp_path: Path) -> None:
    with pytest.raises(NotExportable, match=r"X has no column 'a'\. Pass the frame"):
        exported(tmp_path, by_name().fit(FRAME, SAYS), FRAME[["c", "b"]])


def test_names_for_an_array_are_those_of_the_fit(tmp_path: Path) -> None:
    estimator = make_pipeline(FunctionTransformer(unnamed), logistic()).fit(FRAME, SAYS)

    with pytest.raises(NotExportable, match="feature_names are not the columns"):
        exported(tmp_path, estimator, FRAME.to_numpy(), feature_names=["c", "b", "a"])

    manifest = exported(tmp_path, estimator, FRAME.to_numpy()).manifest
    assert [each.name for each in manifest.features] == ["a", "b", "c"]


@pytest.mark.parametrize("names", ["abc", b"abc", 3, [], [0, 1, 2], [["a"], ["b"], ["c"]]])
def test_feature_names_are_a_list_of_texts(tmp_path: Path, names: Any) -> None:
    with pytest.raises(NotExportable, match="it is a list of texts, one for each column"):
        exported(tmp_path, logistic().fit(FRAME.to_numpy(), SAYS), FRAME.to_numpy(), feature_names=names)


def test_feature_names_may_be_an_array(tmp_path: Path) -> None:
    rows = FRAME.to_numpy()

    manifest = exported(tmp_path, logistic().fit(rows, SAYS), rows, feature_names=np.array(["x", "y", "z"])).manifest

    assert [each.name for each in manifest.features] == ["x", "y", "z"]


def test_scikit_learns_warnings_of_names_are_not_printed(tmp_path: Path) -> None:
    """Only the array can be exported here, since the search hides the names that its estimator was fitted with."""
    estimator = GridSearchCV(make_pipeline("passthrough", logistic()), {}, cv=2).fit(FRAME, SAYS)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = exported(tmp_path, estimator, FRAME.to_numpy())

    assert made.manifest.input == "array"
    assert [str(each.message) for each in caught] == []
