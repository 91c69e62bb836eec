"""The values that an estimator refuses, column by column: unknown ones, and numbers beyond its own dtype."""

import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from headrace.data.attributes import explained
from headrace.data.features import CATEGORIES_MAX, CATEGORY_ROWS_MIN
from headrace.data.table import Column
from headrace.errors import NotExportable
from headrace.exporting.independence import UNSEEN_TEXT, Stored
from headrace.models.manifest import Feature

LIMITS = (float(np.finfo(np.float16).max), float(np.finfo(np.float32).max))
"""The greatest numbers of the dtypes to which estimators convert their input."""

BEYOND = 1.01
"""Factor from such a number to one that the dtype turns into infinity."""

VARIED_MAX = 5
"""Values of training that are varied into unknown ones at most."""

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
        vocabulary = _vocabulary(stored.estimator)
        for at, (feature, column) in enumerate(zip(stored.layout.features, columns, strict=True)):
            each = _Probe(stored, row, at)
            if time.monotonic() > stop_at:
                found.append(feature)
            else:
                found.append(_probed(each, feature, column, vocabulary))
    return found


def notices(features: Sequence[Feature]) -> tuple[str, ...]:
    """Return a sentence for the exporter about each feature whose unknown values are refused."""
    values = {"string": "texts", "number": "numbers", "boolean": "values"}
    return tuple(
        f"{feature.name}: the estimator raises for {values[feature.type]} that it has not seen, "
        'so callers get 422 for them: add handle_unknown to its encoder to take them ("ignore" for a OneHotEncoder, '
        '"use_encoded_value" for an OrdinalEncoder)'
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


def _probed(probe: _Probe, feature: Feature, column: Column, vocabulary: set[Any]) -> Feature:
    if feature.type == "boolean":
        known = [value for value in (False, True) if probe.accepts(value)]
        return feature if len(known) == 2 else feature.model_copy(update={"refuses_unknown": True, "known": known})
    seen = sorted(set(column.present.tolist()))
    unknown = _unknown_texts(seen) if feature.type == "string" else _unknown_numbers(seen)
    if probe.accepts(next(unknown)):
        return feature if feature.type == "string" else _with_magnitude(probe, feature)
    if any(probe.accepts(value) for value in unknown):
        # An unknown number is nothing unusual, and a text that resembles those of training neither: no list is right.
        return _with_magnitude(probe, feature) if feature.type == "number" else _refusing(feature, None)
    public = _public(feature, column)
    further = {value for value in vocabulary - set(public) if isinstance(value, type(seen[0]))}
    if not set(seen) <= set(public) or any(probe.accepts(value) for value in further):
        # Some values that it takes are not public, so their list can't be either.
        return _refusing(feature, None)
    return _refusing(feature, public if probe.accepts(*public) else [each for each in public if probe.accepts(each)])


def _refusing(feature: Feature, known: list[Any] | None) -> Feature:
    return feature.model_copy(update={"refuses_unknown": True, "known": known or None})


def _public(feature: Feature, column: Column) -> list[Any]:
    """Return the values that are in several training rows, if there are few."""
    if feature.type == "string":
        return feature.categories or []
    frequency = Counter(column.present.tolist())
    return sorted(value for value, rows in frequency.items() if rows >= CATEGORY_ROWS_MIN)[:CATEGORIES_MAX]


def _unknown_texts(seen: Sequence[str]) -> Iterator[str]:
    """Yield a text that is like none of training, then some that resemble them: in case, in spaces, in digits."""
    yield UNSEEN_TEXT
    for text in seen[:: max(1, len(seen) // VARIED_MAX)]:
        digits = text.translate(str.maketrans("0123456789", "1234567890"))
        variants = (text.lower(), text.upper(), f" {text}", f"{text} ", text[1:], text + text[-1:], digits)
        yield from (each for each in variants if each not in seen)


def _unknown_numbers(seen: Sequence[float]) -> Iterator[float]:
    """Yield numbers that are not in training: a fraction, then whole numbers near those that are."""
    yield (seen[0] + seen[1]) / 2 if len(seen) > 1 else seen[0] + 0.5
    for value in (*seen[:: max(1, len(seen) // VARIED_MAX)], seen[-1]):
        yield from (each for each in (value + 1.0, value - 1.0) if each not in seen)


def _vocabulary(estimator: Any) -> set[Any]:
    """Return the values in the attributes `categories_` of the parts of an estimator: encoders may know more."""
    found: set[Any] = set()
    seen: set[int] = set()
    pending: list[Any] = [estimator]
    while pending:
        part = pending.pop()
        if isinstance(part, list | tuple):
            pending.extend(part)
        elif isinstance(part, BaseEstimator) and id(part) not in seen:
            seen.add(id(part))
            pending.extend(vars(part).values())
            with explained("categories_"):
                for values in getattr(part, "categories_", None) or ():
                    listed = np.ravel(np.asarray(values)).tolist()
                    found.update(float(each) if isinstance(each, int) else each for each in listed)
    return found


def _with_magnitude(probe: _Probe, feature: Feature) -> Feature:
    if not feature.dtype.lower().startswith("float") or probe.accepts(BEYOND * LIMITS[-1], -BEYOND * LIMITS[-1]):
        return feature
    for limit in LIMITS:
        if probe.accepts(limit, -limit) and not probe.accepts(BEYOND * limit) and not probe.accepts(-BEYOND * limit):
            return feature.model_copy(update={"magnitude": limit})
    return feature
