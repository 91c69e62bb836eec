"""The rows that an estimator was fitted on, as columns whose values JSON can represent."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from headrace.errors import NotExportable

FeatureType = Literal["number", "string", "boolean"]


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
    """Training rows by column; `given` holds them in the form in which the estimator was fitted on them."""

    form: Literal["array", "frame"]
    given: Any
    columns: list[Column]

    def __len__(self) -> int:
        return len(self.columns[0].values)

    def rows(self, positions: Sequence[int]) -> list[list[Any]]:
        """Return rows by position as a caller would send them, with None for a missing value."""
        lists = [
            [None if missing else value for value, missing in zip(values.tolist(), gaps.tolist(), strict=True)]
            for values, gaps in ((each.values[positions], each.missing[positions]) for each in self.columns)
        ]
        return [list(row) for row in zip(*lists, strict=True)]

    def at(self, positions: Sequence[int]) -> Any:
        """Return rows by position, in the form of `given`."""
        return self.given.iloc[positions] if self.form == "frame" else self.given[positions]


def read_table(estimator: Any, rows: Any, feature_names: Sequence[str] | None = None) -> Table:
    """Read the rows that `estimator` was fitted on: a data frame, or numbers of shape (n rows, n features).

    The result has the form, array or frame, that the estimator was fitted on, whichever of them was passed: otherwise
    scikit-learn would warn of absent or unexpected feature names at each prediction.

    Raises:
        NotExportable: if callers could not send such rows: if they are sparse, or hold dates, infinity and the like.
    """
    fitted_names = getattr(estimator, "feature_names_in_", None)
    if hasattr(rows, "tocsr"):
        raise NotExportable("X is sparse: rows arrive dense, so fit on X.toarray(), or vectorize inside of a Pipeline")
    if isinstance(rows, pd.DataFrame):
        frame = rows
        on_array = fitted_names is None and hasattr(estimator, "n_features_in_")
    else:
        on_array = fitted_names is None
        names = feature_names if on_array else list(fitted_names)  # type: ignore[arg-type]
        frame = _frame_of_array(rows, names)
    if feature_names is not None and list(feature_names) != [str(name) for name in frame.columns]:
        raise NotExportable("feature_names are not the columns of the frame that the estimator was fitted on")
    if frame.shape[0] == 0 or frame.shape[1] == 0:
        raise NotExportable(f"X has shape {frame.shape}, expected (n rows, n features) with at least one of each")
    if not frame.columns.is_unique:
        raise NotExportable("feature names repeat")
    columns = [read_column(name, frame[name]) for name in frame.columns]
    if on_array and all(each.type == "number" for each in columns):
        values = np.column_stack([np.where(each.missing, np.nan, each.values) for each in columns])
        # An array has one dtype for all columns.
        columns = [Column(each.name, "number", "float64", each.values, each.missing) for each in columns]
        return Table("array", values, columns)
    if not all(isinstance(name, str) for name in frame.columns):
        raise NotExportable("the columns of X are not named by text: X.columns = X.columns.astype(str) before fitting")
    return Table("frame", frame, columns)


def _frame_of_array(rows: Any, feature_names: Sequence[str] | None) -> Any:
    values = np.asarray(rows)
    if values.dtype.kind not in "biufO" or any(isinstance(each, str) for each in values.ravel().tolist()[:1000]):
        raise NotExportable(
            "X holds text: pass a pandas DataFrame with a name for each column, and select columns by name "
            "(ColumnTransformer) inside of a Pipeline"
        )
    if values.ndim != 2:
        raise NotExportable(f"X has shape {values.shape}, expected (n rows, n features)")
    try:
        values = values.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise NotExportable(f"X can't be read as numbers: {error}") from None
    names = [f"x{i}" for i in range(values.shape[1])] if feature_names is None else list(feature_names)
    if len(names) != values.shape[1]:
        raise NotExportable(f"{len(names)} feature names for {values.shape[1]} columns")
    return pd.DataFrame(values, columns=names)


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
    # Extension dtypes of pandas, such as Int64, reach an estimator as NumPy dtypes.
    kind = getattr(series.dtype, "numpy_dtype", series.dtype)
    dtype = "float64" if missing.any() and kind.kind in "iu" else str(kind)
    return Column(str(name), "number", dtype, values, missing)


def _categorical(name: Any, series: Any, missing: NDArray[np.bool_]) -> Column:
    categories = series.cat.categories.tolist()
    if not all(isinstance(each, str) for each in categories):
        raise NotExportable(
            f"column {name!r} has categories other than text: astype(str).astype('category'), or numbers"
        )
    values = _filled(series.astype(object), missing, "")
    return Column(str(name), "string", "category", values, missing, categories=categories)


def _textual(name: Any, series: Any, missing: NDArray[np.bool_]) -> Column:
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind not in ("string", "boolean"):
        raise NotExportable(
            f"column {name!r} is of dtype {series.dtype} and holds {kind} values: "
            "a feature is numbers, texts or booleans (make dates numbers, and nested values columns)"
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
