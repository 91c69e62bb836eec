from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.model import bisection
from worker.model.bisection import ATTEMPTS_MAX, Bisection
from worker.model.predictions import Predictions


class Model:
    """An attempt that predicts twice the first value of a row, and raises if one is negative."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, rows: Any) -> Predictions:
        self.asked.append(len(rows))
        if any(row[0] < 0 for row in rows):
            raise ValueError
        return Predictions([2 * row[0] for row in rows], [[row[0]] for row in rows], np.array([row[0] for row in rows]))


def searched(bad: set[int], sizes: list[int]) -> tuple[Bisection, Model]:
    model = Model()
    rows = [[-1.0 if at in bad else float(at)] for at in range(sum(sizes))]
    return Bisection(model, rows, sizes, ValueError()), model


def test_of_a_large_call_with_bad_rows_only_the_first_are_found_in_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bisection, "SECONDS_MAX", 60)
    found, model = searched(set(range(10_000)), [10_000])

    assert len(model.asked) <= ATTEMPTS_MAX
    assert list(found.errors) == [*range(len(found.errors))]
    assert len(found.errors) > 1_000
    assert sorted([*found.errors, *found.untried]) == [*range(10_000)]


def test_a_slow_model_is_asked_for_the_first_bad_row_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bisection, "SECONDS_MAX", -1)
    found, model = searched({700, 800, 900}, [1024])

    assert list(found.errors) == [700]
    assert len(model.asked) <= 11
    assert {800, 900} <= set(found.untried)


def test_many_bad_calls_cost_little_more_than_a_try_each() -> None:
    found, model = searched(set(range(1_000)), [1] * 1_000)

    assert (len(found.errors), found.untried) == (1_000, [])
    assert len(model.asked) < 1_050


@given(st.data())
def test_each_call_gets_its_own_answer(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=9))
    n_rows = sum(sizes)
    bad = data.draw(st.sets(st.integers(0, max(n_rows - 1, 0)), min_size=1)) if n_rows else set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bisection, "ATTEMPTS_MAX", data.draw(st.integers(0, 20)))
        found, _ = searched(bad, sizes)

    answer = found.predictions(has_probabilities=True)
    predicted = {at: value for at, value in enumerate(answer.predictions) if value is not None}
    assert predicted == {at: 2.0 * at for at in predicted}
    assert not predicted.keys() & {*found.errors, *found.untried}
    assert predicted.keys() | {*found.errors, *found.untried} == set(range(n_rows))
    assert sorted(answer.confidence.tolist()) == sorted(map(float, predicted))
    assert set(found.errors) <= bad
    for start, end in zip([0, *accumulate(sizes)], accumulate(sizes), strict=False):
        first_bad = min((at for at in bad if start <= at < end), default=None)
        assert min((at for at in found.errors if start <= at < end), default=None) == first_bad
        assert first_bad is not None or not any(start <= at < end for at in found.untried)
