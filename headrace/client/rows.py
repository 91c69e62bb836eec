"""Rows as callers have them, as the JSON body of a request. Data frames are known by their methods, not by import."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from typing import Any

import orjson

from headrace.client.errors import UnusableRows

Row = Mapping[str, Any]
"""A value, or None for a missing one, by the name of the feature."""

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATETIME
_HINT = "a row is a mapping of feature names to values, such as {'age': 42.0}"


def body_of(rows: Any) -> bytes:
    """Return the body of a request for one row (a mapping or a Series) or for several (a sequence or a data frame).

    Raises:
        UnusableRows: if they are something else, or have a value that JSON does not have.
    """
    body = _row(rows) if is_row(rows) else {"instances": [_row(row, at) for at, row in enumerate(_listed(rows))]}
    try:
        return orjson.dumps(body, default=_plain, option=_OPTIONS)
    except orjson.JSONEncodeError as error:
        raise UnusableRows(f"a value can't be sent as JSON: {error}; {_HINT}") from None


def is_row(rows: Any) -> bool:
    """Return True for one row, False for anything else."""
    # A Series has `to_dict`, but no columns.
    return isinstance(rows, Mapping) or (hasattr(rows, "to_dict") and not hasattr(rows, "columns"))


def _listed(rows: Any) -> Iterable[Any]:
    if hasattr(rows, "to_dicts"):  # Polars
        return rows.to_dicts()  # type: ignore[no-any-return]
    if hasattr(rows, "columns") and hasattr(rows, "to_dict"):
        return rows.to_dict(orient="records")  # type: ignore[no-any-return]
    if isinstance(rows, str | bytes) or not isinstance(rows, Iterable):
        raise UnusableRows(f"the rows are of type {type(rows).__name__}: several are a list or a data frame, {_HINT}")
    return rows


def _row(row: Any, position: int = 0) -> dict[str, Any]:
    if not is_row(row):
        raise UnusableRows(f"row {position} is of type {type(row).__name__}: {_HINT}")
    values: dict[Any, Any] = dict(row) if isinstance(row, Mapping) else row.to_dict()
    for name in values:
        if not isinstance(name, str):
            raise UnusableRows(f"the feature's name {name!r} is no text: {_HINT}")
    return values


def _plain(value: Any) -> Any:
    """Return what JSON has for a value that it does not have.

    Raises:
        TypeError: if there is nothing.
    """
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    raise TypeError
