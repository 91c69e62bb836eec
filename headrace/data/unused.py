"""Columns that an estimator drops, such as those that a ColumnTransformer names for no transformer."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import OneToOneFeatureMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.feature_selection import SelectorMixin
from sklearn.model_selection._search import BaseSearchCV
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer

from headrace.data.attributes import explained
from headrace.data.predictions import first_difference, predict
from headrace.errors import NotExportable
from headrace.models.fields import DTYPE_PATTERN, LABEL_MAX
from headrace.models.manifest import Filled

COMPARED_ROWS_MAX = 1_000

FUNCTION_ROWS_MAX = 100
"""Number of rows that a function gets once without each column."""


def dropped_columns(estimator: Any, given: Any) -> tuple[list[int], list[Filled]]:
    """Return the positions of the columns that the estimator drops, and how those are filled that it still expects.

    A column counts as dropped if the structure of the estimator says so, and no prediction changes without its values.

    Args:
        estimator: a fitted estimator.
        given: the rows that it was fitted on, an array of shape (n rows, n columns) or a data frame.
    """
    names = list(given.columns) if isinstance(given, pd.DataFrame) else list(range(given.shape[1]))
    positions = sorted(set(range(len(names))) - (_used(estimator, names) & _read(estimator, given)))
    if not positions or len(positions) == len(names):
        return [], []
    rows = given[:: -(-len(given) // COMPARED_ROWS_MAX)]
    expected = predict(estimator, rows, probabilities=False)
    unused = [names[at] for at in positions]
    if isinstance(rows, pd.DataFrame) and _same(estimator, rows.drop(columns=unused), expected):
        return positions, []
    filled = [_filling(rows, at) for at in positions]
    return (positions, filled) if _same(estimator, _with(rows, filled), expected) else ([], [])


def _same(estimator: Any, rows: Any, expected: Any) -> bool:
    try:
        return first_difference(expected, predict(estimator, rows, probabilities=False)) is None
    except NotExportable:
        return False


def _filling(rows: Any, position: int) -> Filled:
    """Return a value that discloses nothing of training: 0, false, the empty text, else null."""
    if not isinstance(rows, pd.DataFrame):
        return Filled(name=f"x{position}", position=position, dtype=rows.dtype.name, value=0.0)
    dtype = rows.dtypes.iloc[position]
    value: Any = None
    if pd.api.types.is_bool_dtype(dtype):
        value = False
    elif pd.api.types.is_numeric_dtype(dtype):
        value = 0.0
    elif pd.api.types.is_string_dtype(dtype):
        value = ""
    # A manifest has no name for dtypes such as `period[D]`.
    name = str(dtype) if re.fullmatch(DTYPE_PATTERN, str(dtype)) else "object"
    column = str(rows.columns[position])
    if len(column) > LABEL_MAX:
        raise NotExportable(f"column name {column[:40]!r}… has more than {LABEL_MAX:,} characters")
    return Filled(name=column, position=position, dtype=name, value=value)


def _with(rows: Any, filled: Sequence[Filled]) -> Any:
    rows = rows.copy()
    for each in filled:
        if isinstance(rows, pd.DataFrame):
            rows[each.name] = pd.Series([each.value] * len(rows), dtype=each.dtype, index=rows.index)
        else:
            rows[:, each.position] = each.value
    return rows


def _used(part: Any, names: Sequence[Any]) -> set[int]:
    """Return the positions of the columns that may have an effect on a fitted estimator or transformer."""
    everything = set(range(len(names)))
    if isinstance(part, ColumnTransformer):
        with explained("transformers_"):
            used = [_positions(columns, names) for _, step, columns in part.transformers_ if not _drops(step)]
            return set().union(*used)
    if isinstance(part, FeatureUnion):
        with explained("transformer_list"):
            return set().union(*(_used(step, names) for _, step in part.transformer_list if not _drops(step)))
    if isinstance(part, SelectorMixin):
        with explained("get_support"):
            return set(np.flatnonzero(part.get_support()).tolist())
    if isinstance(part, Pipeline):
        with explained("steps"):
            steps = [step for _, step in part.steps if step is not None and not _passes(step)]
        return next((_used(step, names) for step in steps if not _keeps_columns(step)), everything)
    inner = _inner(part)
    return set().union(*(_used(each, names) for each in inner)) if inner else everything


def _read(estimator: Any, given: Any) -> set[int]:
    """Return the positions of the columns of a frame that the function at the start of a pipeline reads, if so."""
    everything = set(range(given.shape[1]))
    with explained("steps"):
        step = estimator[0] if isinstance(estimator, Pipeline) else None
    if not isinstance(step, FunctionTransformer) or not isinstance(given, pd.DataFrame):
        return everything
    rows = given[:: -(-len(given) // FUNCTION_ROWS_MAX)]
    expected = step.transform(rows)
    return {at for at in everything if not _is_same_frame(step, rows.drop(columns=rows.columns[at]), expected)}


def _is_same_frame(step: Any, rows: Any, expected: Any) -> bool:
    try:
        made = step.transform(rows)
    except Exception:
        # The function of others asks for the column.
        return False
    return isinstance(made, pd.DataFrame) and made.equals(expected)


def _drops(step: Any) -> bool:
    return isinstance(step, str) and step == "drop"


def _passes(step: Any) -> bool:
    return isinstance(step, str) and step == "passthrough"


def _keeps_columns(step: Any) -> bool:
    """Tell whether a transformer puts each column into the place where it was, such as StandardScaler."""
    return isinstance(step, OneToOneFeatureMixin)


def _inner(estimator: Any) -> list[Any]:
    """Return the fitted estimators that get the same columns as the estimator that they are parts of."""
    for kinds, name, read in _INNER:
        if isinstance(estimator, kinds):
            with explained(name):
                return list(read(getattr(estimator, name)))
    return []


def _positions(columns: Any, names: Sequence[Any]) -> list[int]:
    """Return the positions of columns that a ColumnTransformer names by text, by position, or by a slice or mask."""
    if isinstance(columns, slice) and isinstance(columns.start or columns.stop, str):
        first = 0 if columns.start is None else names.index(columns.start)
        last = len(names) - 1 if columns.stop is None else names.index(columns.stop)
        return list(range(first, last + 1))
    listed = np.atleast_1d(columns) if not isinstance(columns, slice) else columns
    if not isinstance(listed, slice) and listed.dtype.kind in "OUST":
        return [names.index(each) for each in listed.tolist()]
    return [int(at) for at in np.arange(len(names))[listed]] if isinstance(listed, slice) or listed.size else []


_INNER: list[tuple[Any, str, Callable[[Any], list[Any]]]] = [
    (BaseSearchCV, "best_estimator_", lambda value: [value]),
    (TransformedTargetRegressor, "regressor_", lambda value: [value]),
    (CalibratedClassifierCV, "calibrated_classifiers_", lambda value: [each.estimator for each in value]),
    (VotingClassifier | VotingRegressor | MultiOutputClassifier | MultiOutputRegressor, "estimators_", list),
]
"""Classes -> the attribute with the estimators that get the same columns, and a function from its value to a list."""
