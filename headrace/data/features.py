"""Features of the manifest, described from training columns: type, observed values, reference distribution."""

import re
from collections import Counter

import numpy as np
import pandas as pd

from headrace.data.reference import histogram_edges, numeric_reference, rounded_range, smoothed_ratios
from headrace.data.table import EXACT_MAX, Column
from headrace.errors import NotExportable
from headrace.models.fields import LABEL_MAX, NAME_MAX
from headrace.models.manifest import MISSING_BIN, OTHER_BIN, Feature, Reference

CATEGORIES_MAX = 100

DTYPE_CATEGORIES_MAX = 1_000

BIN_CATEGORIES_MAX = 20

CATEGORY_ROWS_MIN = 3
"""Number of training rows that a text must have to be listed: a text of fewer may tell of one person."""

CATEGORY_CHARACTERS_MAX = 128
"""Longest text that counts as a category, in characters: categories become labels of metrics."""

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.\w")


def describe(column: Column) -> Feature:
    """Describe a column as a feature.

    Raises:
        NotExportable: if it has the dtype `category` with too many or too long categories, or a bad name.
    """
    if not 0 < len(column.name) <= NAME_MAX:
        raise NotExportable(f"feature name {column.name[:40]!r}… has not 1 to {NAME_MAX} characters")
    if column.type == "number":
        return _number(column)
    if column.type == "boolean":
        counts = [int(np.count_nonzero(column.present == value)) for value in (False, True)]
        return _feature(column, reference=_reference(column, ["False", "True"], counts))
    return _string(column)


def is_categorical(column: Column) -> bool:
    """Tell whether the texts of a column repeat. Texts that don't are names, keys or prose."""
    different = len(set(column.present.tolist()))
    return different <= BIN_CATEGORIES_MAX or different <= len(column.present) / 2


def public_texts(column: Column) -> list[str]:
    """Return the texts of a column that may be listed, the most frequent first: those of several training rows.

    Names, keys and prose would be useless as categories, and would disclose training data. So would the texts of a
    column that holds e-mail addresses. In a column of many different texts, a text is listed only if at least a
    hundredth of the rows has it: keys may repeat too.
    """
    frequency = Counter(column.present.tolist())
    if not is_categorical(column) or any(map(_EMAIL.search, frequency)):
        return []
    share = len(column.present) / 100 if len(frequency) > CATEGORIES_MAX else 0
    return [
        text
        for text, rows in frequency.most_common()
        if rows >= max(CATEGORY_ROWS_MIN, share) and len(text) <= CATEGORY_CHARACTERS_MAX
    ]


def _feature(column: Column, *, reference: Reference, categories: list[str] | None = None) -> Feature:
    return Feature(
        name=column.name,
        type=column.type,
        nullable=bool(column.missing.any()),
        dtype=column.dtype,
        null_as=column.null_as,
        categories=categories,
        longest=max(map(len, column.present.tolist()), default=0) if column.type == "string" else None,
        reference=reference,
    )


def _number(column: Column) -> Feature:
    values = column.present
    low, high = _holdable(column)
    minimum, maximum = np.clip(rounded_range(float(values.min()), float(values.max())), low, high).tolist()
    return Feature(
        name=column.name,
        nullable=bool(column.missing.any()),
        dtype=column.dtype,
        minimum=minimum,
        maximum=maximum,
        whole=bool((values == np.floor(values)).all()),
        histogram_edges=histogram_edges(values),
        reference=numeric_reference(values, missing=int(column.missing.sum())),
    )


def _holdable(column: Column) -> tuple[float, float]:
    """Return the least and the greatest number that callers can send for a column, in its dtype."""
    dtype = pd.api.types.pandas_dtype(column.dtype)
    kind = getattr(dtype, "numpy_dtype", dtype)
    if kind.kind not in "iu":
        return -np.inf, np.inf
    bounds = np.iinfo(kind)
    return max(float(bounds.min), 1.0 - EXACT_MAX), min(float(bounds.max), EXACT_MAX - 1.0)


def _string(column: Column) -> Feature:
    frequency, ranked = Counter(column.present.tolist()), public_texts(column)
    bins = [text for text in ranked if text not in (OTHER_BIN, MISSING_BIN)][:BIN_CATEGORIES_MAX]
    counts = [frequency[text] for text in bins]
    reference = _reference(column, [*bins, OTHER_BIN], [*counts, len(column.present) - sum(counts)])
    if column.categories is None:
        return _feature(column, reference=reference, categories=ranked[:CATEGORIES_MAX] or None)
    if len(column.categories) > DTYPE_CATEGORIES_MAX:
        raise NotExportable(
            f"column {column.name!r} has {len(column.categories)} categories, more than {DTYPE_CATEGORIES_MAX}: "
            "make it texts (astype(str)) before fitting"
        )
    if max(map(len, column.categories), default=0) > LABEL_MAX:
        raise NotExportable(
            f"column {column.name!r} has a category of more than {LABEL_MAX:,} characters: make it texts (astype(str)) "
            "before fitting"
        )
    return _feature(column, reference=reference, categories=column.categories)


def _reference(column: Column, bins: list[str], counts: list[int]) -> Reference:
    if column.missing.any():
        bins, counts = [*bins, MISSING_BIN], [*counts, int(column.missing.sum())]
    return Reference(bins=bins, ratios=smoothed_ratios(counts))
