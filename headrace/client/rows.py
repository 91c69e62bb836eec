"""Rows as callers have them, as the JSON body of a request. Data frames and arrays are known by their methods."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from numbers import Real
from typing import Any

import orjson

from headrace.client.errors import UnusableRows

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATETIME
_HINT = "a row is a mapping of feature names to values, such as {'age': 42.0}"
_TEXT = "a text is the value of a feature, as in [{'text': 'well made'}]"
_SERIES = "a Series is one row, and `to_frame()` makes it a column"
_LIST = "in a list of rows each is a list of its values, as in [[42.0, 1.5]]"


@dataclass(frozen=True)
class Rows:
    """Rows of a request: each a dict of values by feature, or a list of values in the order of the features."""

    rows: list[dict[str, Any] | list[Any]]
    single: bool
    """True if the caller has one row, not a list of one."""
    first: int = 0
    """Position of the first row among those that errors count."""

    @property
    def need_names(self) -> bool:
        """True if a row is a list, which takes the names of the features to be sent."""
        return any(isinstance(row, list) for row in self.rows)

    def body(self, names: Sequence[str] = ()) -> bytes:
        """Return the body of a request.

        Args:
            names: names of the model's features, in order.

        Raises:
            UnusableRows: if a list has more or fewer values than the model has features, or a value is none of JSON's,
                such as infinity.
        """
        named = [
            row if isinstance(row, dict) else _named(row, names, at) for at, row in enumerate(self.rows, self.first)
        ]
        try:
            body = orjson.dumps(named[0] if self.single else {"instances": named}, default=_plain, option=_OPTIONS)
        except orjson.JSONEncodeError as error:
            raise UnusableRows(f"a value can't be sent as JSON: {error}; {_HINT}") from None
        if b"null" in body:
            # JSON has no infinity, and orjson writes it as a missing value.
            for at, row in enumerate(named, self.first):
                _refuse_infinity(row, at)
        return body


def rows_of(rows: Any, first: int = 0) -> Rows:
    """Return one row (a mapping, a Series or an array) or several (a sequence, a data frame or a matrix).

    Args:
        rows: the rows as the caller has them.
        first: position of the first row among those that errors count.

    Raises:
        UnusableRows: if they are something else.
    """
    if _is_mapping(rows) or _dimensions(rows) == 1:
        return Rows([_row(rows, first)], True, first)
    if _dimensions(rows) == 2:
        return Rows(rows.tolist(), False, first)
    return Rows([_row(row, position) for position, row in enumerate(each_of(rows), first)], False, first)


def each_of(rows: Any) -> Iterable[Any]:
    """Return several rows one by one.

    Raises:
        UnusableRows: if they can't be iterated over, are a text, or have a column's name twice.
    """
    if hasattr(rows, "to_dicts"):  # Polars
        return rows.to_dicts()  # type: ignore[no-any-return]
    if hasattr(rows, "columns") and hasattr(rows, "to_dict"):
        _refuse_repetition(rows.columns)
        return rows.to_dict(orient="records")  # type: ignore[no-any-return]
    dimensions = _dimensions(rows)
    if dimensions not in (None, 2):
        raise UnusableRows(f"the rows are an array of {dimensions} dimensions: several rows are one of 2; {_HINT}")
    if isinstance(rows, str | bytes) or not isinstance(rows, Iterable):
        raise UnusableRows(f"the rows are of type {type(rows).__name__}: several are a list or a data frame, {_HINT}")
    return rows


def _is_mapping(row: Any) -> bool:
    # A Series has `to_dict`, but no columns.
    return isinstance(row, Mapping) or (hasattr(row, "to_dict") and not hasattr(row, "columns"))


def _dimensions(rows: Any) -> int | None:
    """Return the number of dimensions of an array; None for anything else."""
    return int(rows.ndim) if hasattr(rows, "tolist") and hasattr(rows, "ndim") else None


def _row(row: Any, position: int) -> dict[str, Any] | list[Any]:
    if not _is_mapping(row):
        if _dimensions(row) == 1:
            row = row.tolist()
        if not isinstance(row, list | tuple):
            form = _TEXT if isinstance(row, str) else _LIST
            raise UnusableRows(f"row {position} is of type {type(row).__name__}: {form}, or {_HINT}")
        return list(row)
    hint = _HINT
    if not isinstance(row, Mapping):
        _refuse_repetition(getattr(row, "index", ()))
        row, hint = row.to_dict(), f"{_SERIES}; {_HINT}"
    values: dict[Any, Any] = dict(row)
    for name in values:
        if not isinstance(name, str):
            raise UnusableRows(f"the feature's name {name!r} is no text: {hint}")
    return values


def _named(row: list[Any], names: Sequence[str], position: int) -> dict[str, Any]:
    if len(row) != len(names):
        values = "1 value" if len(row) == 1 else f"{len(row)} values"
        features = "1 feature" if len(names) == 1 else f"{len(names)} features"
        raise UnusableRows(f"row {position} has {values}, and the model has {features}; or {_HINT}")
    return dict(zip(names, row, strict=True))


def _refuse_repetition(names: Iterable[Any]) -> None:
    # pandas' `to_dict` keeps the last of them.
    for name, count in Counter(names).items():
        if count > 1:
            raise UnusableRows(f"the feature's name {name!r} comes {count} times: each value needs a name of its own")


def _refuse_infinity(row: dict[str, Any], position: int) -> None:
    for name, value in row.items():
        if isinstance(value, Real) and abs(value) == math.inf:
            raise UnusableRows(
                f"row {position}, feature {name!r}: {value} is no number of JSON; NaN is a missing value"
            )


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
