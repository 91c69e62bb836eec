from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from shared.queue.replies import as_text
from worker.model.predictions import AnswerReader, MalformedAnswer

Exported = Callable[[str], tuple[ModelStore, Manifest]]


def objects(*values: Any) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


@pytest.mark.parametrize(
    "predictions",
    [
        objects({"a": 1}, "b"),
        objects([1], "b"),
        objects((1, 2), "b"),
        objects(None, "b"),
        objects(object(), "b"),
        objects(float("nan"), "b"),
        objects(b"a", "b"),
        np.array(["2026-01-01", "2026-01-02"], dtype="datetime64[s]"),
        np.array([b"a", b"b"]),
        np.array([1j, 2j]),
        [[1], [1, 2]],
    ],
)
def test_classes_that_are_no_scalars_of_json_are_the_models_mistake(exported: Exported, predictions: Any) -> None:
    manifest = exported("logistic regression")[1]

    with pytest.raises(MalformedAnswer):
        AnswerReader(manifest).read(predictions, None, 2)


@pytest.mark.parametrize("predictions", [objects({"a": 1}, 1.0), objects([1], 1.0), np.array(["one", "2"])], ids=str)
def test_numbers_that_are_none_are_the_models_mistake(exported: Exported, predictions: Any) -> None:
    with pytest.raises(MalformedAnswer):
        AnswerReader(exported("ridge")[1]).read(predictions, None, 2)


@pytest.mark.parametrize("predictions", [objects(float("nan"), 1.0), np.array(["nan", "1.0"])], ids=str)
def test_nan_among_objects_fails_its_row(exported: Exported, predictions: Any) -> None:
    answer = AnswerReader(exported("ridge")[1]).read(predictions, None, 2)

    assert answer.predictions == [None, 1.0]
    assert answer.failures.keys() == {0}


@pytest.mark.parametrize("probability", [{"a": 1}, float("nan")], ids=str)
def test_probabilities_are_numbers(exported: Exported, probability: Any) -> None:
    manifest = exported("logistic regression")[1]
    classes = manifest.outputs[0].classes or []
    shares = np.full((2, len(classes)), 0.5, dtype=object)
    shares[0, 0] = probability
    reader = AnswerReader(manifest)

    if isinstance(probability, dict):
        with pytest.raises(MalformedAnswer):
            reader.read(objects(*classes[:1], *classes[:1]), shares, 2)
    else:
        assert reader.read(objects(*classes[:1], *classes[:1]), shares, 2).failures.keys() == {0}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "longdouble", "int64", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_probabilities_of_many_rows_are_written_as_those_of_few(exported: Exported, dtype: str, order: Any) -> None:
    manifest = exported("logistic regression")[1]
    classes = np.array(["setosa", "versicolor", "virginica"])[np.arange(40) % 3]
    shares = np.random.default_rng(0).dirichlet(np.ones(3), 40).astype(dtype, order=order)
    reader = AnswerReader(manifest)

    answer = reader.read(classes, shares, 40)
    before = answer.probability_rows()

    few = [reader.read(classes[at : at + 10], shares[at : at + 10], 10).probabilities for at in range(0, 40, 10)]
    assert before == [row for rows in few if rows is not None for row in rows]
    assert answer.probability_text(7, 31) == as_text(before[7:31])
    shares[:] = 0
    assert answer.probability_rows() == before, "an estimator may use its array again"


def test_rows_beside_one_that_fails_keep_their_probabilities(exported: Exported) -> None:
    manifest = exported("logistic regression")[1]
    shares = np.full((40, 3), 1 / 3)
    shares[7, 1] = np.nan

    answer = AnswerReader(manifest).read(np.full(40, "setosa"), shares, 40)

    assert list(answer.failures) == [7]
    assert answer.probabilities == [None if at == 7 else [1 / 3] * 3 for at in range(40)]
