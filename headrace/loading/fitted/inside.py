"""Checks of numbers and arrays that the checks of estimators share."""

from typing import Any

import numpy as np

from headrace.errors import ArtifactInvalid

ANY = object()
"""Any length; nothing that an artifact could hold."""


def check_inside(positions: Any, end: int, start: Any = 0) -> None:
    """Check that positions in an array are at `start` or beyond, and before `end`.

    Raises:
        ArtifactInvalid: if one is not.
    """
    # Not by the array's own class: a masked array hides what is behind its mask.
    positions = np.asarray(positions)
    if not ((positions >= start) & (positions < end)).all():
        raise ArtifactInvalid("it has links or positions that lead out of its arrays")


def has_shape(array: Any, *shape: Any) -> bool:
    """Return True for an array of NumPy's own classes and of a shape, in which ANY stands for any length."""
    is_own = type(array) in (np.ndarray, np.memmap) and array.ndim == len(shape)
    return is_own and all(side is ANY or side == length for side, length in zip(shape, array.shape, strict=True))


def whole(value: Any) -> int:
    """Return a whole number as Python's, which does not overflow as NumPy's do.

    Raises:
        ArtifactInvalid: if it is none.
    """
    if type(value) is not int and not isinstance(value, np.integer):
        raise ArtifactInvalid("a number of an estimator is no whole number")
    return int(value)


def check_columns(columns: Any) -> None:
    """Check that a mapping from what is in a row to columns of a matrix, which is as wide as the mapping, is inside.

    Raises:
        ArtifactInvalid: if not.
    """
    if type(columns) is not dict:
        raise ArtifactInvalid("the columns of an estimator are no dictionary")
    check_inside(np.array([whole(each) for each in columns.values()], np.int64), len(columns))
