"""Features of the manifest, described from training columns: type, observed values, reference distribution."""

from collections import Counter

import numpy as np

from headrace.data.reference import histogram_edges, numeric_reference, smoothed_ratios
from headrace.data.table import Column
from headrace.errors import NotExportable
from headrace.models.manifest import MISSING_BIN, OTHER_BIN, Feature, Reference

CATEGORIES_MAX = 100

DTYPE_CATEGORIES_MAX = 1_000

BIN_CATEGORIES_MAX = 20

CATEGORY_CHARACTERS_MAX = 128
"""Longest text that counts as a category, in characters: categories become labels of metrics."""


def describe(column: Column) -> Feature:
    """Describe a column as a feature.

    Raises:
        NotExportable: if it has the dtype `category` with more than 1,000 categories, or its name is empty or too long.
    """
    if not 0 < len(column.name) <= 128:
        raise NotExportable(f"feature name {column.name[:40]!r}… has not 1 to 128 characters")
    if column.type == "number":
        return _number(column)
    if column.type == "boolean":
        counts = [int(np.count_nonzero(column.present == value)) for value in (False, True)]
        return _feature(column, reference=_reference(column, ["False", "True"], counts))
    return _string(column)


def is_categorical(column: Column) -> bool:
    """Tell whether the texts of a column repeat.

    Texts that don't are names, keys or prose: as categories they would be useless, and would disclose training data.
    """
    different = len(set(column.present.tolist()))
    return different <= BIN_CATEGORIES_MAX or different <= len(column.present) / 2


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
    return Feature(
        name=column.name,
        nullable=bool(column.missing.any()),
        dtype=column.dtype,
        minimum=float(values.min()),
        maximum=float(values.max()),
        histogram_edges=histogram_edges(values),
        reference=numeric_reference(values, missing=int(column.missing.sum())),
    )


def _string(column: Column) -> Feature:
    frequency = Counter(column.present.tolist())
    ranked = [text for text, _ in frequency.most_common() if len(text) <= CATEGORY_CHARACTERS_MAX]
    if not is_categorical(column):
        ranked = []
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
    return _feature(column, reference=reference, categories=column.categories)


def _reference(column: Column, bins: list[str], counts: list[int]) -> Reference:
    if column.missing.any():
        bins, counts = [*bins, MISSING_BIN], [*counts, int(column.missing.sum())]
    return Reference(bins=bins, ratios=smoothed_ratios(counts))
