"""The values that an estimator refuses, column by column: unknown texts, and numbers beyond its own dtype."""

import time
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from headrace.data.table import Column
from headrace.errors import NotExportable
from headrace.exporting.independence import UNSEEN_TEXT, Stored
from headrace.models.manifest import Feature

LIMITS = (float(np.finfo(np.float16).max), float(np.finfo(np.float32).max))
"""The greatest numbers of the dtypes to which estimators convert their input."""

BEYOND = 1.01
"""Factor from such a number to one that the dtype turns into infinity."""

SECONDS_MAX = 10.0
"""Time in seconds after which no further column is probed."""


def probe(stored: Stored, columns: Sequence[Column], row: Sequence[Any]) -> list[Feature]:
    """Return the features of an estimator with the values that it refuses.

    Args:
        stored: the estimator.
        columns: the training columns of its features.
        row: a row that it predicts; for each probe one value of it is changed.
    """
    stop_at = time.monotonic() + SECONDS_MAX
    found: list[Feature] = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for at, (feature, column) in enumerate(zip(stored.layout.features, columns, strict=True)):
            each = _Probe(stored, row, at)
            if time.monotonic() > stop_at:
                found.append(feature)
            elif feature.type == "string":
                found.append(_text(each, feature, column))
            else:
                found.append(_number(each, feature))
    return found


def notices(features: Sequence[Feature]) -> tuple[str, ...]:
    """Return a sentence for the exporter about each feature whose unknown texts are refused."""
    return tuple(
        f"{feature.name}: the estimator raises for texts that it has not seen, so callers get 422 for them: "
        'add handle_unknown="ignore" to its encoder to take them'
        for feature in features
        if feature.refuses_unknown
    )


class _Probe:
    """A row of which one value is changed."""

    def __init__(self, stored: Stored, row: Sequence[Any], at: int) -> None:
        self._stored = stored
        self._row = row
        self._at = at

    def accepts(self, *values: Any) -> bool:
        """Return True if the estimator predicts the row with each of these values."""
        rows = [[*self._row[: self._at], value, *self._row[self._at + 1 :]] for value in values]
        try:
            self._stored.predict(rows)
        except NotExportable:
            return False
        return True


def _text(probe: _Probe, feature: Feature, column: Column) -> Feature:
    if probe.accepts(UNSEEN_TEXT):
        return feature
    texts = feature.categories or []
    if not texts or not set(column.present.tolist()) <= set(texts):
        # Some texts of training are not public, so their list can't be either.
        return feature.model_copy(update={"refuses_unknown": True})
    known = texts if probe.accepts(*texts) else [text for text in texts if probe.accepts(text)]
    return feature.model_copy(update={"refuses_unknown": True, "known": known or None})


def _number(probe: _Probe, feature: Feature) -> Feature:
    if not feature.dtype.lower().startswith("float") or probe.accepts(BEYOND * LIMITS[-1], -BEYOND * LIMITS[-1]):
        return feature
    for limit in LIMITS:
        if probe.accepts(limit, -limit) and not probe.accepts(BEYOND * limit) and not probe.accepts(-BEYOND * limit):
            return feature.model_copy(update={"magnitude": limit})
    return feature
