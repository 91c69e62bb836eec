"""The rows that an estimator was fitted on, as columns whose values JSON can represent."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from headrace.data.advice import ADVICE, OTHER_ADVICE
from headrace.data.attributes import fitted_names
from headrace.data.forms import fitted_form, texts_alone
from headrace.data.unused import dropped_columns
from headrace.errors import NotExportable
from headrace.models.fields import InputForm
from headrace.models.manifest import FEATURES_MAX, Filled

TEXT = "text"
"""Name of the feature of an estimator that was fitted on texts alone."""

FeatureType = Literal["number", "string", "boolean"]

EXACT_MAX = 2**53
"""Magnitude up to which float64 holds every whole number."""

MASKED = re.compile(r"U?Int(8|16|32|64)|Float(32|64)")
"""The dtypes of pandas for numbers that may be missing."""


@dataclass(frozen=True, eq=False)
class Column:
    """The values of one feature.

    Attributes:
        name: the name of the feature.
        type: the type of its values in JSON.
        dtype: the dtype in a data frame, as the manifest specifies it.
        values: shape (n rows,), float64, str (as objects) or bool, by `type`; arbitrary where a value is missing.
        missing: shape (n rows,), true where a value is missing.
        null_as: the value that stood for a missing one, NaN or None, in a column of dtype `object`.
        categories: the categories of the dtype `category`.
    """

    name: str
    type: FeatureType
    dtype: str
    values: NDArray[Any]
    missing: NDArray[np.bool_]
    null_as: Literal["nan", "none"] = "nan"
    categories: list[str] | None = None

    @property
    def present(self) -> NDArray[Any]:
        """The values that are not missing."""
        found: NDArray[Any] = self.values[~self.missing]
        return found


@dataclass(frozen=True, eq=False)
class Table:
    """Training rows by column.

    Attributes:
        given: the rows in the form in which the estimator was fitted on them, an array or a data frame.
        columns: the columns that the estimator uses.
        dropped: the names of the other columns.
        filled: those of the other columns that the estimator expects all the same.
    """

    given: Any
    columns: list[Column]
    dropped: list[str] = field(default_factory=list)
    filled: list[Filled] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.given)

    @property
    def form(self) -> InputForm:
        """The form of `given`."""
        if isinstance(self.given, np.ndarray):
            return "array" if self.given.ndim == 2 else "texts"
        return "series" if self.given.ndim == 1 else "frame"

    def rows(self, positions: Sequence[int]) -> list[list[Any]]:
        """Return rows by position as a caller would send them, with None for a missing value."""
        lists = [
            [None if missing else value for value, missing in zip(values.tolist(), gaps.tolist(), strict=True)]
            for values, gaps in ((each.values[positions], each.missing[positions]) for each in self.columns)
        ]
        return [list(row) for row in zip(*lists, strict=True)]

    def at(self, positions: Sequence[int]) -> Any:
        """Return rows by position, in the form of `given`."""
        return self.given.iloc[positions] if self.form in ("frame", "series") else self.given[positions]


def read_table(estimator: Any, rows: Any, feature_names: Sequence[str] | None = None) -> Table:
    """Read the rows that `estimator` was fitted on: a data frame, or numbers of shape (n rows, n features).

    Raises:
        NotExportable: if callers could not send such rows: if they are sparse, or hold dates, infinity and the like.
    """
    feature_names = _listed(feature_names)
    if (texts := texts_alone(rows)) is not None:
        return _table_of_texts(texts, feature_names)
    given, refusal = fitted_form(estimator, rows, feature_names)
    if isinstance(given, pd.DataFrame):
        frame = given
    else:
        named = isinstance(rows, pd.DataFrame)
        names = [str(name) for name in rows.columns] if named else fitted_names(estimator) or feature_names
        frame = pd.DataFrame(given, columns=names or [f"x{at}" for at in range(given.shape[1])])
    if not frame.columns.is_unique:
        raise NotExportable("feature names repeat")
    if feature_names is not None and list(feature_names) != [str(name) for name in frame.columns]:
        raise NotExportable("feature_names are not the columns of the frame that the estimator was fitted on")
    positions, filled = ([], []) if refusal else dropped_columns(estimator, given)
    columns = [read_column(name, frame[name]) for at, name in enumerate(frame.columns) if at not in positions]
    if refusal:
        raise refusal
    if len(columns) > FEATURES_MAX:
        raise NotExportable(
            f"it has {len(columns):,} features, and a model has at most {FEATURES_MAX:,}: compute them in a pipeline, "
            "such as words from a column of texts"
        )
    if not isinstance(given, pd.DataFrame):
        # An array has one dtype for all columns.
        columns = [
            replace(each, type="number", dtype=given.dtype.name, values=each.values.astype(np.float64))
            for each in columns
        ]
    return Table(given, columns, [str(frame.columns[at]) for at in positions], filled)


def _listed(names: Any) -> list[str] | None:
    """Return names as a list, after a check that they are texts and not one text."""
    if names is None:
        return None
    is_listed = isinstance(names, Iterable) and not isinstance(names, str | bytes)
    listed = list(names) if is_listed else []
    if not listed or not all(isinstance(each, str) for each in listed):
        raise NotExportable(f"feature_names is {names!r:.100}: it is a list of texts, one for each column")
    return listed


def _table_of_texts(texts: Any, feature_names: Sequence[str] | None) -> Table:
    """Return texts as a table of one column, which has the name of the series, or else `text`."""
    names = list(feature_names) if feature_names is not None else [getattr(texts, "name", None) or TEXT]
    if len(names) != 1 or not isinstance(names[0], str):
        raise NotExportable(f"the feature names {names} are not the name of one column of texts")
    return Table(texts, [read_column(names[0], pd.Series(texts))])


def read_column(name: Any, series: Any) -> Column:
    """Read one column of a data frame.

    Raises:
        NotExportable: if all its values are missing, or of a type that callers can't send.
    """
    missing = series.isna().to_numpy(dtype=bool)
    if missing.all():
        raise NotExportable(f"column {name!r} holds no values")
    dtype = series.dtype
    if isinstance(dtype, pd.SparseDtype):
        raise NotExportable(f"column {name!r} is sparse: rows arrive dense, so make it series.sparse.to_dense()")
    if isinstance(dtype, pd.CategoricalDtype):
        return _categorical(name, series, missing)
    if pd.api.types.is_bool_dtype(dtype):
        boolean = "bool" if isinstance(dtype, np.dtype) else "boolean"
        return Column(str(name), "boolean", boolean, _filled(series, missing, False).astype(bool), missing)
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        return _numeric(name, series, missing)
    return _textual(name, series, missing)


def _numeric(name: Any, series: Any, missing: NDArray[np.bool_]) -> Column:
    values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    if np.isinf(values).any():
        raise NotExportable(f"column {name!r} holds infinity, which JSON can't represent")
    kind = getattr(series.dtype, "numpy_dtype", series.dtype)
    if kind.kind in "iu" and (np.abs(values[~missing]) >= EXACT_MAX).any():
        raise NotExportable(
            f"column {name!r} holds whole numbers of 2**53 and more, which a JSON number does not hold exactly: "
            "make it texts (astype(str)) before fitting"
        )
    if MASKED.fullmatch(str(series.dtype)):
        return Column(str(name), "number", str(series.dtype), values, missing)
    # Other extension dtypes of pandas reach an estimator as NumPy dtypes.
    dtype = "float64" if (missing.any() and kind.kind in "iu") or kind.itemsize > 8 else kind.name
    return Column(str(name), "number", dtype, values, missing)


def _categorical(name: Any, series: Any, missing: NDArray[np.bool_]) -> Column:
    categories = series.cat.categories.tolist()
    if not all(isinstance(each, str) for each in categories):
        raise NotExportable(
            f"column {name!r} has categories other than text: astype(str).astype('category') before fitting, or numbers"
        )
    values = _filled(series.astype(object), missing, "")
    return Column(str(name), "string", "category", values, missing, categories=categories)


def _textual(name: Any, series: Any, missing: NDArray[np.bool_]) -> Column:
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind not in ("string", "boolean"):
        raise NotExportable(
            f"column {name!r} is of dtype {series.dtype} and holds {kind} values: a feature is numbers, texts or "
            f"booleans. {ADVICE.get(kind, OTHER_ADVICE)}, before fitting"
        )
    null_as: Literal["nan", "none"] = "none" if any(value is None for value in series[missing]) else "nan"
    if kind == "boolean":
        values = _filled(series, missing, False).astype(bool)
        return Column(str(name), "boolean", "object", values, missing, null_as)
    dtype = str(series.dtype) if isinstance(series.dtype, pd.StringDtype) else "object"
    return Column(str(name), "string", dtype, _filled(series, missing, ""), missing, null_as)


def _filled(series: Any, missing: NDArray[np.bool_], filler: Any) -> NDArray[Any]:
    values = np.array(series.to_numpy(dtype=object), dtype=object)
    values[missing] = filler
    return values
