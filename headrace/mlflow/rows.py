"""Rows of a model for its export: those of a file, or of the input example, with the types of the signature."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from headrace.data.attributes import fitted_names
from headrace.errors import MlflowUnusable
from headrace.mlflow.mlmodel import MlflowModel

DTYPES = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32", "boolean": "bool"}
"""Dtype of a column of pandas for a type of MLflow; of others, the rows tell it."""

READERS = {".csv": pd.read_csv, ".parquet": pd.read_parquet}


def read_data(path: Path) -> Any:
    """Return the rows of a CSV or Parquet file as a data frame.

    Raises:
        MlflowUnusable: if the file can't be read as one.
        OSError: if there is no such file.
    """
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise MlflowUnusable(f"{path}: rows are read from {' and '.join(READERS)} files")
    try:
        return read(path)
    except OSError:
        raise
    except Exception as error:
        # The parsers raise errors of any kind, and pandas an ImportError where it has no Parquet reader.
        raise MlflowUnusable(f"{path}: {type(error).__name__}: {' '.join(str(error).split())[:200]}") from error


def example_frame(model: MlflowModel) -> Any:
    """Return the input example as a data frame; None if the model has none.

    Raises:
        MlflowUnusable: if its values make no table.
    """
    if model.example is None:
        return None
    try:
        return pd.DataFrame(model.example.rows, columns=model.example.columns)
    except (TypeError, ValueError, OverflowError) as error:
        raise MlflowUnusable(f"the input example is no table: {error}") from None


def as_fitted(frame: Any, model: MlflowModel, estimator: Any, left_out: Sequence[str] = ()) -> tuple[Any, Any]:
    """Return rows in the form in which the estimator was fitted, and names for the columns of an array or None.

    Args:
        frame: the rows, with any further columns.
        model: what MLflow says of the model.
        estimator: the fitted estimator.
        left_out: columns that are no features, if neither the estimator nor the signature names the features.

    Raises:
        MlflowUnusable: if the rows lack a column, or hold values of another type than the signature says.
    """
    fitted = fitted_names(estimator)
    signed = [column.name for column in model.columns or ()]
    names: list[Any] = fitted or signed or [name for name in frame.columns if name not in left_out]
    absent = [name for name in names if name not in frame.columns]
    if absent:
        have = ", ".join(map(str, frame.columns[:20]))
        raise MlflowUnusable(f"the rows have no column {absent[0]!r}; they have {have}")
    rows = _typed(frame[names], model)
    if fitted is not None:
        return rows, None
    if all(kind.kind in "biuf" for kind in rows.dtypes if hasattr(kind, "kind")):
        named = [str(name) for name in names] if not isinstance(rows.columns, pd.RangeIndex) else None
        return rows.to_numpy(dtype=model.tensor if _is_number(model.tensor) else None), named
    return (rows.iloc[:, 0] if len(names) == 1 else rows), None


def _typed(rows: Any, model: MlflowModel) -> Any:
    typed = rows.copy()
    for column in model.columns or ():
        if column.name not in typed.columns:
            continue
        values = typed[column.name]
        try:
            if column.type == "string":
                # JSON has None for a missing text, and CSV has NaN, which is what pandas reads.
                typed[column.name] = values.astype(object).where(values.notna(), float("nan"))
            elif (dtype := DTYPES.get(column.type)) and (dtype.startswith("float") or values.notna().all()):
                typed[column.name] = values.astype(dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise MlflowUnusable(f"column {column.name!r} is not of the signature's type: {error}") from None
    return typed


def _is_number(dtype: Any) -> bool:
    return isinstance(dtype, str) and dtype in ("float64", "float32", "float16", "int64", "int32", "int16", "int8")
