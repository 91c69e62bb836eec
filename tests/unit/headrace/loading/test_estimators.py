"""Every estimator of scikit-learn is read as it was written: the lists of names are long enough."""

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import make_classification
from sklearn.utils import all_estimators
from sklearn.utils._test_common.instance_generator import _construct_instances

from headrace.loading.unpickler import unpickle
from tests.unit.headrace.loading.pickles import dumped

ROWS, TARGETS = make_classification(40, 5, random_state=0)
TEXTS = ["a b", "b c"] * 20

DATA: list[tuple[Any, ...]] = [
    (ROWS, TARGETS),
    (np.abs(ROWS), TARGETS),
    (ROWS, np.column_stack([TARGETS, 1 - TARGETS])),
    (ROWS, ROWS[:, :2]),
    (ROWS[:, 0], TARGETS),
    (TARGETS,),
    (TEXTS, TARGETS),
    ([{"a": 1}] * 40, TARGETS),
]
"""Rows and targets, of which each estimator takes the first that it can."""

LEFT_OUT = {"FrozenEstimator", "TunedThresholdClassifierCV"}
"""Estimators that are nothing without another one, or that are refused because they hold a scorer."""


def fitted(kind: type) -> tuple[Any, Any] | None:
    """Return a fitted estimator of a class with its rows; None if it takes none of the rows."""
    for estimator in _construct_instances(kind):
        for data in DATA:
            try:
                return estimator.fit(*data), data[0]
            except Exception:
                continue
    return None


def answers(estimator: Any, rows: Any) -> list[Any]:
    """Return what an estimator says of the rows; nothing if it does not take them, or draws at random."""
    found = []
    for method in ("predict", "transform"):
        try:
            one, other = (getattr(estimator, method)(rows) for _ in range(2))
        except Exception:
            continue
        if same(one, other):
            found.append(one)
    return found


def same(found: Any, expected: Any) -> bool:
    found, expected = (each.toarray() if hasattr(each, "toarray") else np.asarray(each) for each in (found, expected))
    if expected.dtype.kind == "f":
        return np.allclose(found, expected, equal_nan=True)
    return bool((found == expected).all())


@pytest.mark.parametrize(("name", "kind"), [each for each in all_estimators() if each[0] not in LEFT_OUT])
def test_estimators_are_read(name: str, kind: type) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if (made := fitted(kind)) is None:
            return
        estimator, rows = made
        found, _ = unpickle(dumped(estimator))
        expected = answers(estimator, rows)
        assert all(same(*pair) for pair in zip(answers(found, rows), expected, strict=True))
