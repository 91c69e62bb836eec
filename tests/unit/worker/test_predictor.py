import hashlib
import json
import logging
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from celery.exceptions import SoftTimeLimitExceeded
from numpy.typing import NDArray

from shared.contract import ErrorCode
from shared.errors import ArtifactInvalid, ModelNotFound
from shared.manifest import MANIFEST_FILE
from shared.model_store import ModelStore
from tests.support.manifests import classifier, regressor
from tests.support.puppet import Act
from worker.predictor import Predictor, PredictorCache

LOW, HIGH = [-1.0, float(Act.ANSWER)], [1.0, float(Act.ANSWER)]
RAISING = [1.0, float(Act.RAISE)]
NAN = [1.0, float(Act.ANSWER_NAN)]


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.folder),)


def load(store: ModelStore, name: str = "puppet") -> Predictor:
    return Predictor.load(store, name, "v1")


def change_manifest(store: ModelStore, name: str, change: Callable[[dict[str, Any]], None]) -> None:
    path = store.folder(name, "v1") / MANIFEST_FILE
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def replace_artifact(store: ModelStore, name: str, content: bytes) -> None:
    (store.folder(name, "v1") / "model.pkl").write_bytes(content)


# --- loading


@pytest.mark.parametrize("name", ["puppet", "labels", "numbers"])
def test_a_version_is_loaded_as_it_was_exported(store: ModelStore, name: str) -> None:
    predictor = load(store, name)

    assert str(predictor) == f"{name} v1"
    assert predictor.manifest == store.manifest(name)


def test_another_artifact_is_refused_before_anything_of_it_runs(store: ModelStore, tmp_path: Path) -> None:
    replace_artifact(store, "puppet", pickle.dumps(Bomb(tmp_path / "crater")))

    with pytest.raises(ArtifactInvalid, match="SHA-256"):
        load(store)

    assert not (tmp_path / "crater").exists()


def test_and_the_digest_is_all_that_stood_between(store: ModelStore, tmp_path: Path) -> None:
    content = pickle.dumps(Bomb(tmp_path / "crater"))
    replace_artifact(store, "puppet", content)
    digest = hashlib.sha256(content).hexdigest()
    change_manifest(store, "puppet", lambda manifest: manifest["artifact"].update(sha256=digest))

    with pytest.raises(ArtifactInvalid):
        load(store)

    assert (tmp_path / "crater").exists()


@pytest.mark.parametrize("keep", [0, 1, -1])
def test_half_an_artifact_is_refused(store: ModelStore, keep: int) -> None:
    whole = (store.folder("puppet", "v1") / "model.pkl").read_bytes()
    replace_artifact(store, "puppet", whole[:keep])

    with pytest.raises(ArtifactInvalid, match="SHA-256"):
        load(store)


def set_prediction(value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda manifest: manifest["samples"][1].update(prediction=value)


def add_to_share(difference: float) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["samples"][1]["probabilities"][0] += difference

    return change


def add_to_number(difference: float) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["samples"][1]["prediction"] += difference

    return change


def set_act(act: Act) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["samples"][1]["row"][1] = act

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("puppet", set_prediction("medium")),
        ("puppet", set_prediction(1)),
        ("puppet", add_to_share(1e-3)),
        ("puppet", set_act(Act.RAISE)),
        ("puppet", set_act(Act.ANSWER_NAN)),
        ("labels", set_prediction("medium")),
        ("numbers", add_to_number(1e-3)),
        ("numbers", set_prediction("high")),
        ("numbers", set_act(Act.RAISE)),
        ("numbers", set_act(Act.ANSWER_NAN)),
    ],
)
def test_a_model_that_does_not_say_what_it_said_when_it_was_exported_is_refused(
    store: ModelStore, name: str, change: Callable[[dict[str, Any]], None]
) -> None:
    change_manifest(store, name, change)

    with pytest.raises(ArtifactInvalid, match=f"{name} v1: sample 1"):
        load(store, name)


@pytest.mark.parametrize(("name", "change"), [("puppet", add_to_share(1e-9)), ("numbers", add_to_number(-1e-9))])
def test_the_last_bits_may_differ_on_another_machine(
    store: ModelStore, name: str, change: Callable[[dict[str, Any]], None]
) -> None:
    change_manifest(store, name, change)

    load(store, name)


def test_probabilities_that_went_away_are_noticed(store: ModelStore) -> None:
    change_manifest(store, "puppet", lambda manifest: manifest["output"].update(probabilities=False))

    with pytest.raises(ArtifactInvalid, match="sample 0"):
        load(store)


# --- predicting


def test_a_batch_is_one_call_and_its_answers_are_plain_values(store: ModelStore) -> None:
    answer = load(store).predict([LOW, HIGH, LOW])

    assert answer.predictions == ["low", "high", "low"]
    assert answer.probabilities == [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]
    assert answer.failures == {}
    assert answer.compute_seconds > 0
    assert orjson.loads(orjson.dumps([answer.predictions, answer.probabilities])) == [
        answer.predictions,
        answer.probabilities,
    ]


class Scripted:
    """An estimator that notes the sizes of its calls, and answers or raises what it is given."""

    def __init__(self, predict: Callable[[NDArray[np.float64]], Any], predict_proba: Any = None) -> None:
        self.calls: list[int] = []
        self._predict = predict
        self.predict_proba = predict_proba

    def predict(self, rows: NDArray[np.float64]) -> Any:
        self.calls.append(len(rows))
        return self._predict(rows)


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("int64", [0, 1]),
        ("bool", [False, True]),
        ("U4", ["a", "long"]),
        ("object", ["a", "b"]),
        ("float32", [0.5, 2.0]),
    ],
)
def test_whatever_type_the_model_answers_json_can_say_it(dtype: str, values: list[Any]) -> None:
    estimator = Scripted(lambda rows: np.array(values, dtype=dtype))

    answer = Predictor(regressor(), estimator).predict([LOW, HIGH])

    assert answer.predictions == values
    assert orjson.loads(orjson.dumps(answer.predictions)) == values
    assert estimator.calls == [2]


def test_without_probabilities_none_are_made_up(store: ModelStore) -> None:
    for name in ("labels", "numbers"):
        assert load(store, name).predict([LOW, HIGH]).probabilities is None


def test_probabilities_are_asked_for_only_if_the_manifest_has_them() -> None:
    def refuse(_: Any) -> Any:
        raise AssertionError("not to be asked")

    estimator = Scripted(lambda rows: np.array(["short"] * len(rows)), predict_proba=refuse)

    assert Predictor(classifier(probabilities=False), estimator).predict([LOW]).probabilities is None


@pytest.mark.parametrize("name", ["puppet", "labels", "numbers"])
@pytest.mark.parametrize("bad", [{0}, {1}, {3}, {0, 2}, {0, 1, 2, 3}])
def test_a_row_that_makes_the_model_raise_fails_alone(store: ModelStore, name: str, bad: set[int]) -> None:
    predictor = load(store, name)
    expected = predictor.predict([HIGH]).predictions[0]

    answer = predictor.predict([RAISING if i in bad else HIGH for i in range(4)])

    assert answer.predictions == [None if i in bad else expected for i in range(4)]
    assert set(answer.failures) == bad
    for i, error in answer.failures.items():
        assert (error.code, error.rows) == (ErrorCode.PREDICTION_FAILED, [i])
        assert error.message == "the model raised ValueError"
    if name == "puppet":
        assert answer.probabilities == [None if i in bad else [1.0, 0.0] for i in range(4)]
    else:
        assert answer.probabilities is None


def test_what_a_model_says_when_it_raises_goes_to_the_log_only(
    store: ModelStore, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        answer = load(store).predict([RAISING])

    assert "asked to raise" in caplog.text
    assert "asked to raise" not in json.dumps([error.as_dict() for error in answer.failures.values()])


def test_row_by_row_is_the_exception() -> None:
    def predict(rows: NDArray[np.float64]) -> Any:
        if (rows[:, 0] < 0).any():
            raise ValueError
        return np.ones(len(rows))

    estimator = Scripted(predict)
    predictor = Predictor(regressor(), estimator)

    predictor.predict([HIGH] * 5)
    assert estimator.calls == [5]
    predictor.predict([HIGH, LOW, HIGH])
    assert estimator.calls == [5, 3, 1, 1, 1]


def test_rows_that_are_none_fail_alone_too(store: ModelStore) -> None:
    answer = load(store, "numbers").predict([HIGH, [1.0], ["text", 0.0], HIGH])

    assert answer.predictions == [0.5, None, None, 0.5]
    assert set(answer.failures) == {1, 2}


@pytest.mark.parametrize("name", ["puppet", "numbers"])
@pytest.mark.parametrize("others", [[HIGH, LOW], [HIGH, RAISING]])
def test_an_answer_that_is_no_number_fails_alone(store: ModelStore, name: str, others: list[list[float]]) -> None:
    predictor = load(store, name)
    rows = [others[0], NAN, others[1]]

    answer = predictor.predict(rows)

    assert answer.failures[1].code == ErrorCode.NON_FINITE_OUTPUT
    assert answer.failures[1].rows == [1]
    assert answer.predictions[1] is None
    assert answer.predictions[0] is not None
    assert set(answer.failures) == ({1} if others[1] is LOW else {1, 2})
    if answer.probabilities is not None:
        assert answer.probabilities[1] is None
        assert answer.probabilities[0] == [1.0, 0.0]


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_no_way_to_be_no_number_gets_through(number: float) -> None:
    estimator = Scripted(lambda rows: np.array([1.0, number]))

    answer = Predictor(regressor(), estimator).predict([HIGH, HIGH])

    assert answer.predictions == [1.0, None]
    assert set(answer.failures) == {1}


@pytest.mark.parametrize("raising_call", [1, 2, 3])
def test_the_time_limit_ends_a_batch_wherever_it_strikes(raising_call: int) -> None:
    def predict(rows: NDArray[np.float64]) -> Any:
        if len(estimator.calls) == raising_call:
            raise SoftTimeLimitExceeded
        raise ValueError

    estimator = Scripted(predict)

    with pytest.raises(SoftTimeLimitExceeded):
        Predictor(regressor(), estimator).predict([HIGH] * 5)

    assert len(estimator.calls) == raising_call


def test_rows_become_an_array_of_floats() -> None:
    array = Predictor.array([[1, 2.5], [-0.0, 1e300]])

    assert (array.shape, array.dtype.name) == ((2, 2), "float64")


# --- the cache


def test_a_version_is_loaded_once(store: ModelStore) -> None:
    cache = PredictorCache(store)
    assert cache.loaded() == []

    first = cache.get("puppet", "v1")

    assert cache.get("puppet", "v1") is first
    assert cache.get("numbers", "v1") is not first
    assert [str(predictor) for predictor in cache.loaded()] == ["puppet v1", "numbers v1"]


@pytest.mark.parametrize(("name", "version"), [("unknown", "v1"), ("puppet", "v2"), ("../puppet", "v1")])
def test_what_is_not_there_is_not_loaded(store: ModelStore, name: str, version: str) -> None:
    cache = PredictorCache(store)

    with pytest.raises(ModelNotFound):
        cache.get(name, version)
    assert cache.loaded() == []
