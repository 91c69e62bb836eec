"""Bodies in CSV, as rows of a model."""

import csv
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from typing import Any

from gateway.catalog.row_parser import RowParser
from gateway.errors import InvalidRows
from headrace.models.manifest import Feature
from shared.queue.contract import Row

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


def read_csv(
    body: bytes, features: Sequence[Feature], parser: RowParser, has_names: bool | None = None
) -> Sequence[Row]:
    """Return the rows of a table: with a line of names, or with the values of all features in their order.

    An empty value is a missing one, unless the feature is a text that is never missing. So is NaN for a number.

    Args:
        body: the table.
        features: the model's features.
        parser: the parser of the model's rows.
        has_names: true if the first line has names; None if the line itself is to tell.

    Raises:
        InvalidRows: if it does not hold rows of the model.
    """
    parser.parts_limit.check_csv(body)
    try:
        lines = [line for line in csv.reader(StringIO(body.decode("utf-8-sig"), newline=""), strict=True) if line]
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidRows([((), f"Input should be CSV in UTF-8: {error}")]) from None
    by_name = {feature.name: feature for feature in features}
    if has_names is None:
        has_names = bool(lines) and _are_names(lines[0], features)
        if not has_names and len(lines) > 1:
            _check_first(lines[0], lines[1], features)
    names = lines[0] if has_names and lines else [*by_name]
    rows = lines[1:] if has_names else lines
    if has_names:
        _check_names(names, by_name)
    if not 0 < len(rows) <= parser.rows_max:
        raise InvalidRows([((), f"Input should have 1 to {parser.rows_max} rows")])
    for at, row in enumerate(rows):
        if len(row) != len(names):
            raise InvalidRows([((at,), f"Input should have {len(names)} values")])
    columns = {
        name: [*map(_reader(by_name.get(name)), column)]
        for name, column in zip(names, zip(*rows, strict=True), strict=True)
    }
    return parser.rows_of(columns, len(rows))


def _are_names(line: list[str], features: Sequence[Feature]) -> bool:
    """Return True if a cell is the name of a feature; of a line that repeats one, only if it is no row of values."""
    if not any(feature.name in line for feature in features):
        return False
    return len({*line}) == len(line) or not _may_be_row(line, features)


def _may_be_row(line: list[str], features: Sequence[Feature]) -> bool:
    if len(line) != len(features):
        return False
    values = (_reader(feature)(cell) for feature, cell in zip(features, line, strict=True) if feature.type != "string")
    return not any(isinstance(value, str) for value in values)


def _check_names(names: list[str], by_name: Mapping[str, Feature]) -> None:
    """Check that columns have different names, and that the first one has any.

    Raises:
        InvalidRows: if not.
    """
    if names and not names[0]:
        # pandas writes its index so.
        raise InvalidRows([((), "The first column has no name: write the table without an index")])
    counts = Counter(names)
    repeated = next((name for name in names if counts[name] > 1), None)
    if repeated is not None:
        named = repeated if repeated in by_name else "a column"
        raise InvalidRows([((), f"The first line names {named} {'twice' if counts[repeated] == 2 else 'repeatedly'}")])


def _check_first(first: list[str], second: list[str], features: Sequence[Feature]) -> None:
    """Check that the first line does not name other columns: the caller would be told of wrong numbers instead.

    Raises:
        InvalidRows: if none of its values for numbers and booleans is one, and all those of the second line are.
    """
    if not len(first) == len(second) == len(features):
        return
    readers = [(at, _reader(feature)) for at, feature in enumerate(features) if feature.type != "string"]
    if not readers or any(isinstance(read(second[at]), str) for at, read in readers):
        return
    if all(isinstance(read(first[at]), str) for at, read in readers):
        raise InvalidRows([((), "The first line names columns that the model does not have")])


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
    if math.isnan(number):
        return None
    # float() accepts underscores, as Python's own literals do.
    return number if math.isfinite(number) and "_" not in cell else cell


def _boolean(cell: str) -> bool | str | None:
    return _BOOLEANS.get(cell.strip().lower(), cell) if cell.strip() else None
