"""Examination of bodies that are not plainly valid: rows with numbers that only slow checks take, and mistakes.

pydantic-core makes an error of every wrong value and every unknown name. A body of 4 MB has room for 400,000 of them,
which would take the event loop more than a second. So rows are checked one by one, of an object only so many names are
looked at, and the examination ends after `MISTAKES_MAX` mistakes.
"""

from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic_core import CoreSchema, SchemaValidator, core_schema, from_json

from gateway.errors import InvalidJson, InvalidRows
from shared.queue.contract import Row

INSTANCES = "instances"

MISTAKES_MAX = 100
"""Mistakes after which the rest of a body is not examined; also the unknown names of an object that are looked at."""

_MESSAGES = {"dict_type": "Input should be an object", "list_type": "Input should be a valid array"}
"""Messages in words of JSON instead of Python, by pydantic's type of error."""

Mistakes = list[tuple[tuple[int | str, ...], str]]
"""Path of each wrong value, and what is wrong with it."""


class RowExaminer:
    """An examiner of the bodies for one model."""

    def __init__(self, row: CoreSchema, names: Collection[str], required: Collection[str], rows_max: int) -> None:
        """Take the schema of a row, the names of its values and of those that it must have, and the most rows."""
        self._row = SchemaValidator(row)
        self._names = frozenset(names)
        self._required = {name: None for name in names if name in required}
        instances = core_schema.list_schema(min_length=1, max_length=rows_max)
        self._envelope = SchemaValidator(
            core_schema.typed_dict_schema({INSTANCES: core_schema.typed_dict_field(instances)}, extra_behavior="forbid")
        )

    def row(self, body: bytes) -> Row:
        """Return the row of a body that is a flat object.

        Raises:
            InvalidJson: if the body is not JSON.
            InvalidRows: if it is not a row of this model.
        """
        return self.rows([_parsed(body)], [()])[0]

    def instances(self, body: bytes) -> list[Row]:
        """Return the rows of a body that holds instances.

        Raises:
            InvalidJson: if the body is not JSON.
            InvalidRows: if it does not hold rows of this model.
        """
        envelope = _parsed(body)
        try:
            self._envelope.validate_python(_without_surplus(envelope, {INSTANCES}))
        except ValidationError as error:
            raise _invalid(_mistakes(error, ())) from None
        instances = envelope[INSTANCES]
        return self.rows(instances, [(INSTANCES, at) for at in range(len(instances))])

    def _first_missing(self, value: dict[str, Any]) -> list[str]:
        return list(islice((name for name in self._required if name not in value), MISTAKES_MAX))

    def rows(self, values: Iterable[Any], paths: Sequence[tuple[int | str, ...]]) -> list[Row]:
        """Return the rows of JSON values; `paths` name their places.

        Raises:
            InvalidRows: if one is not a row of this model.
        """
        rows: list[Row] = []
        mistakes: Mistakes = []
        for value, path in zip(values, paths, strict=True):
            if isinstance(value, dict) and len(self._required.keys() - value) > MISTAKES_MAX:
                mistakes += [((*path, name), "Field required") for name in self._first_missing(value)]
                break
            try:
                row = self._row.validate_python(_without_surplus(value, self._names))
            except ValidationError as error:
                mistakes += _mistakes(error, path)
                if len(mistakes) >= MISTAKES_MAX:
                    break
            else:
                rows.append(list(row.values()))
        if mistakes:
            raise _invalid(mistakes)
        return rows


def parse_json(body: bytes) -> Any:
    """Return the value of JSON in which NaN is null: Python's clients write it for missing numbers.

    Raises:
        InvalidJson: if it is not JSON.
    """
    try:
        return orjson.loads(body)
    except ValueError:
        return _nulls_for_nan(_parsed(body))


def _nulls_for_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _nulls_for_nan(each) for name, each in value.items()}
    if isinstance(value, list):
        return [*map(_nulls_for_nan, value)]
    return None if value != value else value


def _parsed(body: bytes) -> Any:
    try:
        # Looking for each text in a cache takes longest where it helps least: of names that differ.
        return from_json(body, cache_strings="none")
    except ValueError as error:
        raise InvalidJson(f"Invalid JSON: {error}") from None


def _without_surplus(value: Any, known: Collection[str]) -> Any:
    """Return a value, of an object with too many unknown names a copy with the first of them only."""
    if not isinstance(value, dict) or len(value) <= len(known) + MISTAKES_MAX:
        return value
    unknown = islice((name for name in value if name not in known), MISTAKES_MAX)
    return {name: value[name] for name in (*(name for name in known if name in value), *unknown)}


def _mistakes(error: ValidationError, path: tuple[int | str, ...]) -> Mistakes:
    return [((*path, *mistake["loc"]), _message(mistake)) for mistake in error.errors(include_url=False)]


def _message(mistake: Any) -> str:
    """Return the message of a mistake, which does not quote the value."""
    text: str = _MESSAGES.get(mistake["type"], mistake["msg"])
    return f"{text}, and has {len(mistake['input'])}" if mistake["type"] == "string_too_long" else text


def _invalid(mistakes: Mistakes) -> InvalidRows:
    return InvalidRows(mistakes, all_found=len(mistakes) < MISTAKES_MAX)
