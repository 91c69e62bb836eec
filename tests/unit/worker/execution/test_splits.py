"""Rows are predicted alike, however they are put together and taken apart."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.manifest import Feature, Manifest
from headrace.models.store import ModelStore
from shared.queue.contract import Row
from shared.queue.replies import Result
from tests.support.fuzzing import fuzzed
from worker.execution.results import predict_calls
from worker.model import bisection
from worker.model.predictor import Predictor

CALLS_MAX, ROWS_MAX = 4, 5


@pytest.fixture(scope="module", autouse=True)
def all_bad_rows_are_searched() -> Iterator[None]:
    """Search all bad rows, also on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bisection, "SECONDS_MAX", 60)
        yield


def values(feature: Feature) -> st.SearchStrategy[Any]:
    """Values that the feature may have."""
    if feature.type == "boolean":
        good: st.SearchStrategy[Any] = st.booleans()
    elif feature.type == "string":
        good = st.sampled_from(feature.categories or ["a fine read"]) | st.text(max_size=5)
    else:
        assert feature.minimum is not None
        assert feature.maximum is not None
        good = st.floats(feature.minimum - 1, feature.maximum + 1)
    return good | st.none() if feature.nullable else good


def calls(manifest: Manifest) -> st.SearchStrategy[list[list[Row]]]:
    """The rows of some calls; some hold a text where a number should be, for which estimators raise."""
    good = st.tuples(*map(values, manifest.features)).map(list)
    numbers = [at for at, feature in enumerate(manifest.features) if feature.type == "number"]
    bad = st.builds(lambda row, at: [*row[:at], "text", *row[at + 1 :]], good, st.sampled_from(numbers))
    return st.lists(st.lists(good | good | good | bad, max_size=ROWS_MAX), min_size=1, max_size=CALLS_MAX)


def agree(one: Result, other: Result) -> None:
    """Compare two results; numbers may differ in their last digits, because matrix products round by their shape."""
    assert one.keys() == other.keys()
    if "error" in one:
        assert one == other
        return
    for name in ("predictions", "probabilities"):
        first, second = flat(one[name]), flat(other[name])
        assert list(map(type, first)) == list(map(type, second))
        for ours, theirs in zip(first, second, strict=True):
            assert ours == (pytest.approx(theirs, rel=1e-9, abs=1e-12) if type(ours) is float else theirs)


def flat(values: Any) -> list[Any]:
    return [each for part in values for each in flat(part)] if isinstance(values, list) else [values]


@pytest.mark.parametrize("name", ["logistic regression", "boosting with gaps", "mixed frame", "several numbers"])
def test_a_batch_says_of_each_call_what_it_gets_alone(
    exported: Callable[[str], tuple[ModelStore, Manifest]], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    # Each failing row would be logged with its traceback.
    caplog.set_level(logging.CRITICAL, "worker.model.predictor")
    predictor = Predictor.load(*exported(name))

    @fuzzed(20)
    @given(calls(predictor.manifest))
    def check(asked: list[list[Row]]) -> None:
        batch = predict_calls(predictor, [row for call in asked for row in call], [*map(len, asked)])
        assert len(batch.results) == len(asked)
        for call, result in zip(asked, batch.results, strict=True):
            [alone] = predict_calls(predictor, call, [len(call)]).results
            agree(result, alone)
            if "error" not in result:
                agree(result, in_chunks(predictor, call))

    check()


def in_chunks(predictor: Predictor, call: list[Row]) -> Result:
    """Predict a call in chunks of two rows, like a call that is larger than a batch."""
    chunks = [call[at : at + 2] for at in range(0, len(call), 2)]
    parts = [predict_calls(predictor, chunk, [len(chunk)]).results[0] for chunk in chunks]
    has_probabilities = predictor.manifest.probabilities
    return {
        "predictions": [each for part in parts for each in part["predictions"]],
        "probabilities": [each for part in parts for each in part["probabilities"]] if has_probabilities else None,
    }
