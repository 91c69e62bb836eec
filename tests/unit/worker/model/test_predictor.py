import json
import logging
from collections.abc import Callable
from typing import Any

import billiard.common
import numpy as np
import pytest
from celery.exceptions import Ignore, SoftTimeLimitExceeded, WorkerShutdown
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor

from headrace.data.rows import Layout, estimator_input
from headrace.errors import ArtifactInvalid
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from tests.support.estimators import CASES
from tests.support.exported import fitted
from tests.unit.worker.conftest import Publish, rewrite, rows_of
from worker.model.loader import LoadedEstimator
from worker.model.predictions import Predictions
from worker.model.predictor import Predictor

Exported = Callable[[str], tuple[ModelStore, Manifest]]


class Scripted(BaseEstimator):  # type: ignore[misc]
    """An estimator that answers by functions, and notes the number of rows of each call."""

    def __init__(self, answer: Callable[[Any], Any], shares: Callable[[Any], Any] | None = None) -> None:
        self.answer = answer
        self.shares = shares
        self.asked: list[int] = []

    def predict(self, rows: Any) -> Any:
        self.asked.append(len(rows))
        return self.answer(rows)

    def predict_proba(self, rows: Any) -> Any:
        assert self.shares is not None
        return self.shares(rows)


def scripted(manifest: Manifest, answer: Callable[[Any], Any], shares: Any = None, **changes: Any) -> Predictor:
    changes = {"probabilities": shares is not None, **changes}
    return Predictor(manifest.model_copy(update=changes), LoadedEstimator(Scripted(answer, shares), 0))


def outcome(predictions: Predictions) -> list[tuple[str, list[int]] | None]:
    failures = predictions.failures
    return [
        (failures[i].code, failures[i].rows) if i in failures else None for i in range(len(predictions.predictions))
    ]


@pytest.fixture(scope="module")
def manifest(exported: Exported) -> Manifest:
    """The manifest of a regressor of ten numbers."""
    return exported("ridge")[1]


EXAMINED = 8
"""Calls of an estimator of ten features beside those that find the bad rows."""

ROW = [0.0] * 10
BAD = -99.0
BAD_ROW = [BAD, *ROW[1:]]


@pytest.mark.parametrize("case", CASES)
def test_predictions_are_what_the_estimator_says_in_plain_values(exported: Exported, case: str) -> None:
    store, manifest = exported(case)
    predictor = Predictor.load(store, manifest)
    estimator, rows = fitted(case).estimator, rows_of(manifest) * 3

    answer = predictor.predict(rows)

    made = estimator_input(rows, Layout.of(manifest))
    expected = np.asarray(estimator.predict(made)).tolist()
    assert answer.failures == {}
    if manifest.outputs[0].kind == "number":
        np.testing.assert_allclose(answer.predictions, expected)
        assert {type(each) for each in np.ravel(answer.predictions).tolist()} == {float}
    else:
        assert answer.predictions == expected
        assert _types(answer.predictions) == _types([output.classes for output in manifest.outputs])
    assert json.loads(json.dumps(answer.predictions, allow_nan=False)) == answer.predictions
    assert (answer.probabilities is not None) == manifest.probabilities
    probabilities = answer.probability_rows()
    if probabilities is not None:
        shares = estimator.predict_proba(made)
        by_row = zip(*[each.tolist() for each in shares], strict=True) if isinstance(shares, list) else shares.tolist()
        for found, wanted in zip(probabilities, by_row, strict=True):
            assert np.allclose(np.hstack(found), np.hstack(wanted), rtol=0, atol=1e-12)
        json.dumps(probabilities, allow_nan=False)


def _types(values: Any) -> set[type]:
    return {kind for value in values for kind in (_types(value) if isinstance(value, list) else {type(value)})}


@pytest.mark.parametrize("classes", [[0, 1], [False, True], ["no", "yes"]], ids=["integers", "booleans", "texts"])
@pytest.mark.parametrize("as_objects", [False, True])
def test_classes_come_back_as_what_they_are(
    store: ModelStore, publish: Publish, classes: list[Any], as_objects: bool
) -> None:
    rows = np.array([[0.0], [1.0]])
    y = np.array(classes, dtype=object) if as_objects and isinstance(classes[0], str) else np.array(classes)
    manifest = publish("m", estimator=LogisticRegression().fit(rows, y), rows=rows)

    answer = Predictor.load(store, manifest).predict([[0], [1]])

    assert answer.predictions == classes
    assert [type(each) for each in answer.predictions] == [type(each) for each in classes]


def test_a_single_column_is_one_output(manifest: Manifest) -> None:
    answer = scripted(manifest, lambda rows: rows[:, :1] + 1).predict([ROW, ROW])

    assert answer.predictions == [1.0, 1.0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_fails_its_row_only(manifest: Manifest, bad: float) -> None:
    answer = scripted(manifest, lambda rows: np.where(rows[:, 0] == BAD, bad, 1.0)).predict([ROW, BAD_ROW, ROW])

    assert answer.predictions == [1.0, None, 1.0]
    assert outcome(answer) == [None, ("row_rejected", [1]), None]
    assert answer.failures[1].message == "the model answered NaN or infinity"


def test_what_is_not_finite_in_one_output_fails_the_row(exported: Exported) -> None:
    manifest = exported("several numbers")[1]
    predictor = scripted(manifest, lambda rows: np.column_stack([rows[:, 1], np.where(rows[:, 0] == BAD, np.nan, 2.0)]))

    answer = predictor.predict([BAD_ROW, ROW])

    assert answer.predictions == [None, [0.0, 2.0]]
    assert outcome(answer) == [("row_rejected", [0]), None]


def test_probabilities_that_are_not_finite_fail_the_row(exported: Exported) -> None:
    manifest = exported("logistic regression")[1]
    predictor = scripted(
        manifest,
        lambda rows: np.array(["setosa"] * len(rows)),
        lambda rows: np.where(rows[:, :1] == BAD, np.nan, np.array([[1, 0, 0]])),
    )

    answer = predictor.predict([[1.0] * 4, [BAD] * 4])

    assert answer.predictions == ["setosa", None]
    assert answer.probabilities == [[1.0, 0.0, 0.0], None]
    assert outcome(answer) == [None, ("row_rejected", [1])]


@pytest.mark.parametrize("bad_rows", [[0], [99], [7, 8], [0, 31, 64, 99]])
def test_a_bad_row_fails_alone_and_is_found_fast(
    manifest: Manifest, bad_rows: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    def answer(rows: Any) -> Any:
        if (rows[:, 0] == BAD).any():
            raise ValueError("secret-value")
        return rows[:, 0]

    predictor = scripted(manifest, answer)
    rows = [BAD_ROW if i in bad_rows else [float(i), *ROW[1:]] for i in range(100)]

    found = predictor.predict(rows)

    assert found.predictions == [None if i in bad_rows else float(i) for i in range(100)]
    assert found.failures.keys() == set(bad_rows)
    assert all(
        (error.code, error.rows) == ("row_rejected", [i]) and error.message == "the model raised ValueError"
        for i, error in found.failures.items()
    )
    assert len(predictor._estimator.asked) <= 1 + 2 * 7 * len(bad_rows) + EXAMINED


def test_rows_that_are_no_rows_fail_alone(manifest: Manifest) -> None:
    answer = scripted(manifest, lambda rows: rows[:, 0]).predict([ROW, ["text"] * 10, ROW])

    assert answer.predictions == [0.0, None, 0.0]
    assert outcome(answer)[1] == ("row_rejected", [1])


@pytest.mark.parametrize("raising_call", [1, 2, 3])
def test_the_time_limit_ends_a_batch_wherever_it_strikes(manifest: Manifest, raising_call: int) -> None:
    def answer(rows: Any) -> Any:
        if len(predictor._estimator.asked) == raising_call:
            raise SoftTimeLimitExceeded
        raise ValueError

    predictor = scripted(manifest, answer)

    with pytest.raises(SoftTimeLimitExceeded):
        predictor.predict([ROW] * 5)

    assert len(predictor._estimator.asked) == raising_call


@pytest.mark.parametrize(
    "wrong",
    [lambda rows: rows[:, 0], lambda rows: rows[:, :2], lambda rows: 1.0, lambda rows: rows[None]],
    ids=["rows", "outputs", "scalar", "axes"],
)
def test_an_answer_of_the_wrong_shape_fails_every_row(
    manifest: Manifest, wrong: Callable[[Any], Any], caplog: pytest.LogCaptureFixture
) -> None:
    answer = scripted(manifest, lambda rows: wrong(np.vstack([rows, rows]))).predict([ROW] * 3)

    assert answer.predictions == [None] * 3
    assert outcome(answer) == [("prediction_failed", [i]) for i in range(3)]
    assert logging.ERROR in {record.levelno for record in caplog.records}


def test_a_row_that_the_estimator_leaves_out_fails_alone(manifest: Manifest) -> None:
    answer = scripted(manifest, lambda rows: rows[rows[:, 0] >= 0, 0]).predict([ROW, [-1.0, *ROW[1:]], ROW])

    assert answer.predictions == [0.0, None, 0.0]
    assert outcome(answer) == [None, ("prediction_failed", [1]), None]


def test_no_rows_are_not_halved_for_ever(exported: Exported) -> None:
    # Estimators raise for no rows; a gateway never sends any.
    answer = Predictor.load(*exported("logistic regression")).predict([])

    assert (answer.predictions, answer.probabilities, answer.failures) == ([], [], {})


def test_probabilities_of_the_wrong_shape_fail_every_row(exported: Exported) -> None:
    manifest = exported("logistic regression")[1]
    predictor = scripted(manifest, lambda rows: np.array(["setosa"]), lambda rows: np.array([[0.5, 0.5]]))

    answer = predictor.predict([[1.0] * 4])

    assert (answer.predictions, answer.probabilities) == ([None], [None])
    assert outcome(answer) == [("prediction_failed", [0])]


@pytest.mark.parametrize("error", [MemoryError(), OSError("disk"), ImportError("module")])
def test_an_error_that_no_value_excuses_is_the_models(manifest: Manifest, error: Exception) -> None:
    def answer(rows: Any) -> Any:
        if (rows[:, 0] == BAD).any():
            raise error
        return rows[:, 0]

    assert outcome(scripted(manifest, answer).predict([ROW, BAD_ROW])) == [None, ("prediction_failed", [1])]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), WorkerShutdown(0), Ignore()])
def test_an_exception_that_is_no_error_fails_its_row_only(
    manifest: Manifest, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(rows: Any) -> Any:
        if (rows[:, 0] == BAD).any():
            raise error
        return rows[:, 0]

    found = scripted(manifest, answer).predict([ROW, BAD_ROW])

    assert outcome(found) == [None, ("row_rejected", [1])]
    assert found.failures[1].message == f"the model raised {type(error).__name__}"
    assert f"the model raised {type(error).__name__}" in caplog.text


def test_the_signal_that_ends_a_child_ends_its_batch(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(rows: Any) -> Any:
        monkeypatch.setattr(billiard.common, "_should_have_exited", [True])
        raise SystemExit(0)

    with pytest.raises(SystemExit):
        scripted(manifest, answer).predict([ROW])


def test_a_model_that_fails_for_its_samples_too_has_failed(
    manifest: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(rows: Any) -> Any:
        raise ValueError("broken")

    found = scripted(manifest, answer).predict([ROW] * 2)

    assert outcome(found) == [("prediction_failed", [0]), ("prediction_failed", [1])]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_an_error_that_does_not_come_again_is_the_models(manifest: Manifest) -> None:
    def answer(rows: Any) -> Any:
        if len(predictor._estimator.asked) == 1:
            raise ValueError("once")
        return rows[:, 0]

    predictor = scripted(manifest, answer)

    assert outcome(predictor.predict([ROW])) == [("prediction_failed", [0])]
    assert outcome(predictor.predict([ROW])) == [None]


def test_probabilities_that_went_away_are_noticed(store: ModelStore, publish: Publish) -> None:
    changed = rewrite(store, publish("m"), probabilities=False)

    with pytest.raises(ArtifactInvalid, match="sample 0"):
        Predictor.load(store, changed)


def test_a_model_that_does_not_reproduce_its_samples_is_refused(store: ModelStore, publish: Publish) -> None:
    manifest = publish("m")
    samples = [*manifest.samples]
    samples[1] = samples[1].model_copy(
        update={"prediction": "virginica" if samples[1].prediction == "setosa" else "setosa"}
    )
    changed = rewrite(store, manifest, samples=samples)

    with pytest.raises(ArtifactInvalid, match="m v1: sample 1 is not predicted as when it was exported"):
        Predictor.load(store, changed)


@pytest.mark.parametrize(("difference", "refused"), [(1e-8, False), (1e-4, True)])
def test_samples_agree_within_rounding(store: ModelStore, publish: Publish, difference: float, refused: bool) -> None:
    rows = np.array([[0.0], [1.0], [2.0]])
    manifest = publish("m", estimator=Ridge().fit(rows, [0.0, 10.0, 20.0]), rows=rows)
    samples = [each.model_copy(update={"prediction": each.prediction + difference}) for each in manifest.samples]  # type: ignore[operator]
    changed = rewrite(store, manifest, samples=samples)

    if refused:
        with pytest.raises(ArtifactInvalid, match="sample 0"):
            Predictor.load(store, changed)
    else:
        Predictor.load(store, changed)


@pytest.mark.parametrize(("difference", "refused"), [(1e-8, False), (1e-4, True)])
def test_probabilities_of_samples_agree_within_rounding(
    store: ModelStore, publish: Publish, difference: float, refused: bool
) -> None:
    manifest = publish("m")
    sample = manifest.samples[0]
    shares = [each + difference for each in sample.probabilities or ()]  # type: ignore[operator]
    changed = rewrite(store, manifest, samples=[sample.model_copy(update={"probabilities": shares})])

    if refused:
        with pytest.raises(ArtifactInvalid, match="sample 0"):
            Predictor.load(store, changed)
    else:
        Predictor.load(store, changed)


def test_a_class_of_another_type_is_another_class(store: ModelStore, publish: Publish) -> None:
    rows = np.array([[0.0], [1.0]])
    manifest = publish("m", estimator=LogisticRegression().fit(rows, [0, 1]), rows=rows)
    samples = [each.model_copy(update={"prediction": bool(each.prediction)}) for each in manifest.samples]

    with pytest.raises(ArtifactInvalid, match="sample 0"):
        Predictor.load(store, rewrite(store, manifest, samples=samples))


def test_a_model_that_fails_on_its_samples_is_refused(store: ModelStore, publish: Publish) -> None:
    rows = np.array([[0.0], [1.0]])
    manifest = publish("m", estimator=KNeighborsRegressor(1).fit(rows, [0.0, 1.0]), rows=rows)
    more = [each.model_copy(update={"row": [*each.row, 0.0]}) for each in manifest.samples]
    features = [*manifest.features, manifest.features[0].model_copy(update={"name": "more"})]

    with pytest.raises(ArtifactInvalid, match="sample 0: the model raised ValueError"):
        Predictor.load(store, rewrite(store, manifest, samples=more, features=features))


def test_the_time_is_that_of_the_whole_batch(manifest: Manifest) -> None:
    assert 0.0 < scripted(manifest, lambda rows: rows[:, 0]).predict([ROW] * 4).compute_seconds < 1.0
