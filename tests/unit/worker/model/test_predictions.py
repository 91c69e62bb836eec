from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
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
