"""Bodies in CSV, as rows of a model."""

import csv
import math
from collections.abc import Callable, Sequence
from io import StringIO
from typing import Any

from gateway.catalog.row_parser import RowParser
from gateway.errors import InvalidRows
from headrace.models.manifest import Feature
from shared.queue.contract import Row

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


def read_csv(body: bytes, features: Sequence[Feature], parser: RowParser) -> list[Row]:
    """Return the rows of a table: with a line of names, or with the values of all features in their order.

    An empty value is a missing one, unless the feature is a text that is never missing.

    Raises:
        InvalidRows: if it does not hold rows of the model.
    """
    parser.parts_limit.check_csv(body)
    try:
        lines = [line for line in csv.reader(StringIO(body.decode("utf-8-sig"), newline=""), strict=True) if line]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidRows([((), f"Input should be CSV in UTF-8: {error}")]) from None
    by_name = {feature.name: feature for feature in features}
    names = lines[0] if lines and by_name.keys() & {*lines[0]} and len({*lines[0]}) == len(lines[0]) else None
    rows = lines[1:] if names is not None else lines
    if not 0 < len(rows) <= parser.rows_max:
        raise InvalidRows([((), f"Input should have 1 to {parser.rows_max} rows")])
    names = names or [*by_name]
    for at, row in enumerate(rows):
        if len(row) != len(names):
            raise InvalidRows([((at,), f"Input should have {len(names)} values")])
    columns = {
        name: [*map(_reader(by_name.get(name)), column)]
        for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    return parser.rows_of(columns, len(rows))


def _reader(feature: Feature | None) -> Callable[[str], Any]:
    """Return a function that reads a value of a feature; one that it can't read stays a text, which is refused."""
    if feature is None:
        return str
    if feature.type == "string":
        return (lambda cell: cell or None) if feature.nullable else str
    return _number if feature.type == "number" else _boolean


def _number(cell: str) -> float | str | None:
    if not cell.strip():
        return None
    try:
        number = float(cell)
    except ValueError:
        return cell
    # float() accepts underscores, as Python's own literals do.
    return number if math.isfinite(number) and "_" not in cell else cell


def _boolean(cell: str) -> bool | str | None:
    return _BOOLEANS.get(cell.strip().lower(), cell) if cell.strip() else None
