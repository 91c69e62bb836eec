"""Data sets from CSV and Parquet files."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from headrace.data.features import is_categorical
from headrace.data.table import read_column
from headrace.errors import NotExportable
from training.dataset import Dataset, Task
from training.errors import DatasetInvalid

CLASSES_MAX = 20
"""Number of different values above which whole numbers are taken for a quantity, not for classes."""


def read_dataset(
    path: Path,
    form: Literal["csv", "parquet"],
    *,
    target: str,
    task: Task | None = None,
    leave_out: Collection[str] = (),
) -> Dataset:
    """Read a table. Every column is a feature, except the target and columns that can't be used.

    Without `task`, targets are classes if they are texts, booleans or few different whole numbers, else quantities.

    Raises:
        DatasetInvalid: if the file can't be parsed, or the target doesn't suit the task.
        OSError: if the file can't be opened.
    """
    frame = _read(path, form)
    frame.columns = frame.columns.astype(str)
    unknown = [each for each in (target, *leave_out) if each not in frame.columns]
    if unknown:
        raise DatasetInvalid(f"{path}: no column {unknown[0]!r}; there are {', '.join(frame.columns)}")
    notes = []
    known = frame[target].notna()
    if not known.all():
        notes.append(f"{int((~known).sum())} rows left out: they have no {target}")
        frame = frame[known].reset_index(drop=True)
    targets, task = _targets(path, frame[target], task)
    features, reasons = _usable(frame.drop(columns=[target, *leave_out]))
    if not features:
        raise DatasetInvalid(f"{path}: no column can be a feature: {'; '.join(reasons)}")
    return Dataset(path.stem, frame[features], targets, tuple(features), task, (*notes, *reasons))


def _read(path: Path, form: Literal["csv", "parquet"]) -> Any:
    try:
        # With low_memory pandas would read in chunks, and guess the type of a column for each of them.
        return pd.read_csv(path, low_memory=False) if form == "csv" else pd.read_parquet(path)
    except OSError:
        raise
    except Exception as error:
        # The parsers raise errors of their own, and pandas an ImportError where it has no reader for Parquet.
        raise DatasetInvalid(f"{path}: not readable as {form}: {' '.join(str(error).split())[:200]}") from None


def _targets(path: Path, series: Any, task: Task | None) -> tuple[Any, Task]:
    if series.empty:
        raise DatasetInvalid(f"{path}: no row has a {series.name}")
    if pd.api.types.is_bool_dtype(series.dtype):
        found, guess = series.to_numpy(dtype=bool), "classification"
    elif pd.api.types.is_numeric_dtype(series.dtype):
        found = series.to_numpy(dtype=np.float64)
        whole = bool((found == np.round(found)).all())
        guess = "classification" if whole and len(np.unique(found)) <= CLASSES_MAX else "regression"
        if "classification" in (task, guess) and task != "regression":
            if not whole:
                raise DatasetInvalid(f"{path}: {series.name} holds decimal numbers, which can't be classes")
            found = found.astype(np.int64)
    else:
        found, guess = np.asarray([str(each) for each in series]), "classification"
    chosen: Task = task or ("classification" if guess == "classification" else "regression")
    if chosen == "regression" and found.dtype.kind != "f":
        raise DatasetInvalid(f"{path}: {series.name} holds no numbers, so it can't be the target of a regression")
    if len(np.unique(found)) < 2:
        raise DatasetInvalid(f"{path}: {series.name} is always {found[0]!s}: there is nothing to learn")
    return found, chosen


def _usable(frame: Any) -> tuple[list[str], list[str]]:
    usable, reasons = [], []
    for name in frame.columns:
        try:
            column = read_column(name, frame[name])
        except NotExportable as error:
            reasons.append(f"left out: {error}")
            continue
        if column.type == "string" and not is_categorical(column):
            reasons.append(f"left out: column {name!r} has hardly a text twice: a key, a name or prose")
            continue
        usable.append(name)
    return usable, reasons
