"""Columns of rows: the values that one feature has in all rows of a request, checked without a loop over them."""

import math
from array import array
from collections.abc import Sequence
from typing import Any

from headrace.models.manifest import Feature

EXACT_MAX = 2.0**53
"""Magnitude up to which float64 holds every whole number."""

_TYPES: dict[str, set[type]] = {"number": {float, int}, "boolean": {bool}, "string": {str}}
"""Python types that a JSON value of each feature type is parsed to."""


def valid_column(values: tuple[Any, ...], feature: Feature, longest: int) -> tuple[Any, ...] | None:
    """Return the values of a feature, numbers as floats; None if one may be wrong."""
    types = set(map(type, values))
    has_nulls = type(None) in types
    if has_nulls and feature.nullable:
        types.discard(type(None))
    if types - _TYPES[feature.type]:
        return None
    if int in types:
        values = tuple(None if value is None else float(value) for value in values)
    if not types:
        return values
    if feature.known is not None:
        return values if set(values) <= {None, *feature.known} else None
    if feature.type == "string":
        return values if max(map(len, filter(None, values)), default=0) <= longest else None
    if feature.type == "number":
        present = [value for value in values if value is not None] if has_nulls else values
        return values if _are_small(present, feature) else None
    return values


def are_valid_numbers(numbers: "array[float]", features: Sequence[Feature]) -> bool:
    """Return True if rows of numbers, one after another, are rows of a model; NaN is null.

    Returns False if one may be wrong.
    """
    if any(feature.type != "number" or feature.known is not None for feature in features):
        return False
    if all(feature.magnitude is None for feature in features) and math.hypot(*numbers) < EXACT_MAX:
        return True
    return all(_is_valid(numbers[at :: len(features)], feature) for at, feature in enumerate(features))


def _is_valid(column: "array[float]", feature: Feature) -> bool:
    present = [value for value in column if value == value] if feature.nullable else column
    return _are_small(present, feature)


def _are_small(numbers: Sequence[float], feature: Feature) -> bool:
    # No magnitude exceeds the root of the sum of squares, which takes a sixth of the time of min and max.
    return math.hypot(*numbers) < (feature.magnitude or EXACT_MAX)
