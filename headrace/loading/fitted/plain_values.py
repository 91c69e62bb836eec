"""Checks of values that an estimator hands on as they are, as its answer or in the place of missing ones."""

from typing import Any

import numpy as np

from headrace.errors import ArtifactInvalid
from headrace.loading.tokens import is_plain

NAMES = (
    "categories_", "classes_", "constant", "constant_", "encoded_missing_value", "fill_value", "outlier_label",
    "outlier_label_", "statistics_", "unknown_value",
)  # fmt: skip
"""Attributes with such values. The next estimator would take any object in them for a row."""


def check_plain_values(part: Any) -> None:
    """Check that what an estimator hands on is plain.

    Raises:
        ArtifactInvalid: if another object is among it, such as an array of another estimator.
    """
    fitted = vars(part)
    for name in NAMES:
        if not _is_plain(fitted.get(name)):
            raise ArtifactInvalid(f"{type(part).__qualname__} has a {name} of other than plain values")


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject or all(map(is_plain, np.asarray(value).flat))
    return is_plain(value)
