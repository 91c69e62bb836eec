"""Parser of a model's rows: reads and checks the raw body in one pass, by a schema made from the manifest."""

import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import itemgetter
from typing import Any

import orjson
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, SchemaValidator, core_schema

from gateway.catalog.columns import EXACT_MAX, valid_column
from gateway.catalog.parts_limit import PartsLimit
from gateway.catalog.row_examiner import INSTANCES, RowExaminer
from gateway.errors import NeedsTurn
from headrace.models.manifest import Feature, Manifest
from shared.queue.contract import Row
from shared.queue.packed_rows import rows_of_columns

QUICK_ROW_BYTES = 65_536
"""Longest body that the quick validator of a row gets: it would make too many errors of a longer one with mistakes."""

SMALL_BYTES, SMALL_VALUES = 16_384, 2_048
"""Length, and values with those that are left out, of a body that is parsed without a turn: in 3 ms, whatever it is."""

_HAS_INSTANCES = re.compile(rb'"instances"\s*:')

TEXT_CHARACTERS = 10_000
"""Length of a text that every feature of type string takes by default."""

TEXT_TIMES_LONGEST = 10
"""Longest text that a feature takes by default, in lengths of the longest in training, if that is more."""

CATEGORIES_SHOWN = 10
"""Number of categories that the description of a feature lists."""

_INEXACT = PydanticCustomError(
    "inexact_number", "Input should be a whole number that float64 holds exactly: others would be rounded"
)

_UNKNOWN_VALUE = PydanticCustomError(
    "unknown_value", "Input should be one of the values of training: the model refuses others"
)


@dataclass(frozen=True)
class ParsedRows:
    """The rows of a request, in feature order."""

    rows: Sequence[Row]
    single: bool
    """True if the body was one flat object, which gets a flat answer."""
    text_bytes: int = 0
    """Memory of the texts in bytes: a character takes up to four, of a text in which one character does."""
    takes_bytes: bool = False
    """True if the caller takes probabilities as bytes."""
    deadline_seconds: float | None = None
    """Time after which the request needs no answer, if its body says so."""

    @property
    def memory_bytes(self) -> int:
        """Approximate memory of the rows in bytes."""
        return len(self.rows) * (64 + 32 * len(self.rows[0])) + self.text_bytes


class RowParser:
    """Parser of `{feature: value, ...}` and of `{"instances": [{feature: value, ...}, ...]}`, for one manifest."""

    def __init__(self, manifest: Manifest, rows_max: int, text_max_characters: int | None = None) -> None:
        """`text_max_characters` is the longest text of all features; by default each has a bound of its own."""
        self._features = manifest.features
        self._longest = {each.name: text_max_characters or _longest(each) for each in manifest.features}
        self._nulls = {feature.name: None for feature in manifest.features if feature.nullable}
        self._has_feature_instances = any(feature.name == INSTANCES for feature in manifest.features)
        # With a single name itemgetter returns the bare value. The repeated first name makes it return a tuple; its
        # column is dropped again.
        self._values = itemgetter(*(feature.name for feature in manifest.features), manifest.features[0].name)
        self.rows_max = rows_max
        """Most rows of a request."""
        self._only_numbers = all(feature.type == "number" for feature in manifest.features)
        self.takes_texts = any(feature.type == "string" for feature in manifest.features)
        """True if a feature is a text."""
        self.names = frozenset(self._longest)
        self._required = self.names - self._nulls.keys()
        self.parts_limit = PartsLimit(manifest.features, rows_max)
        self.values_max = math.inf
        row = self._row_schema(_number)
        rows = core_schema.list_schema(row, min_length=1, max_length=rows_max)
        self._schemas = row, _object({INSTANCES: core_schema.typed_dict_field(rows)})
        self._quick_row = SchemaValidator(self._row_schema(_small_number))
        self._examiner = RowExaminer(row, self._longest, self._required, rows_max)

    def _row_schema(self, number: Callable[[Feature], CoreSchema]) -> CoreSchema:
        """Return the schema of a row with this schema for numbers."""
        return _object({each.name: _field(each, number, self._longest[each.name]) for each in self._features})

    @cached_property
    def small(self) -> "RowParser":
        """This parser for bodies without a turn: `rows_of` and `rows_of_objects` raise NeedsTurn for many values."""
        small = copy(self)
        small.values_max = SMALL_VALUES
        return small

    def is_small(self, body: bytes) -> bool:
        """Return True if a body may be parsed without a turn: mistakes take longer than as many values."""
        return len(body) <= SMALL_BYTES and body.count(b"{") * len(self._features) <= SMALL_VALUES

    def parse(self, body: bytes) -> ParsedRows:
        """Return the rows in feature order.

        Raises:
            InvalidJson: if the body is not JSON.
            InvalidRows: if the body is JSON, but not rows of this model.
        """
        if len(body) > QUICK_ROW_BYTES:
            self.parts_limit.check(body)
        if self._is_instances(body):
            rows = self._parse_valid(body)
            return self._parsed(self._examiner.instances(body) if rows is None else rows, body, single=False)
        row = self._parse_valid_row(body) if len(body) <= QUICK_ROW_BYTES else None
        return self._parsed([self._examiner.row(body) if row is None else row], body, single=True)

    def _parsed(self, rows: Sequence[Row], body: bytes, single: bool) -> ParsedRows:
        if not self.takes_texts:
            return ParsedRows(rows, single)
        plain = body.isascii() and b"\\u" not in body
        return ParsedRows(rows, single, len(body) if plain else sum(map(sys.getsizeof, chain.from_iterable(rows))))

    def _is_instances(self, body: bytes) -> bool:
        # The pattern includes the colon, since "instances" may also be the value of a feature.
        if b'"instances"' not in body or not _HAS_INSTANCES.search(body):
            return False
        if self._has_feature_instances:
            # The value of a feature is never a list, so a list holds the instances.
            try:
                return isinstance(orjson.loads(body)[INSTANCES], list)
            except (ValueError, KeyError, TypeError):
                pass
        return True

    def _parse_valid_row(self, body: bytes) -> Row | None:
        """Return the row of a valid flat object; None if anything is wrong, or a number is large."""
        try:
            # Parsed beforehand, because pydantic-core copies a body into the error of each name that is missing.
            parsed = orjson.loads(body)
            if type(parsed) is not dict or len(parsed) > len(self._features) or not self._required <= parsed.keys():
                return None
            return list(self._quick_row.validate_python(parsed).values())
        except ValueError:
            return None

    def rows_of_objects(self, instances: list[Any]) -> Sequence[Row]:
        """Return the rows of parsed instances.

        Raises:
            InvalidRows: if they are not rows of this model; the paths begin with the position of the row.
        """
        if len(instances) * len(self._features) > self.values_max:
            raise NeedsTurn
        rows = self._valid_instances(instances)
        return self._examiner.rows(instances, [(at,) for at in range(len(instances))]) if rows is None else rows

    def rows_of(self, columns: Mapping[str, Sequence[Any]], n_rows: int) -> Sequence[Row]:
        """Return n rows that come as columns by name; one that may be missing may have no column.

        Raises:
            InvalidRows: if they are not rows of this model; the paths begin with the position of the row.
        """
        if n_rows * len(self._features) > self.values_max:
            raise NeedsTurn
        try:
            rows = self._in_order([tuple(columns.get(name, [None] * n_rows)) for name in self._longest])
        except (TypeError, OverflowError):
            rows = None
        if rows is None or not columns.keys() <= self.names:
            values = ({name: column[at] for name, column in columns.items()} for at in range(n_rows))
            rows = self._examiner.rows(values, [(at,) for at in range(n_rows)])
        return rows

    def _parse_valid(self, body: bytes) -> Sequence[Row] | None:
        """Return the rows of valid instances, in a fraction of the validator's time.

        Returns None if anything is wrong: the examiner then finds out what. This method accepts nothing that the
        examiner refuses. It checks column by column, without a Python loop over values.
        """
        try:
            parsed = orjson.loads(body)
            return self._valid_instances(parsed[INSTANCES]) if len(parsed) == 1 else None
        except (ValueError, KeyError, TypeError):
            return None

    def _valid_instances(self, instances: Any) -> Sequence[Row] | None:
        try:
            if not 0 < len(instances) <= self.rows_max or set(map(type, instances)) != {dict}:
                return None
            if self._nulls and min(map(len, instances)) < len(self._features):
                instances = [{**self._nulls, **instance} for instance in instances]
            columns = [*zip(*map(self._values, instances), strict=True)][:-1]
        except (ValueError, KeyError, TypeError):
            return None
        # None is missing: so none is unknown either.
        if set(map(len, instances)) != {len(columns)}:
            return None
        return self._in_order(columns)

    def _in_order(self, columns: list[tuple[Any, ...]]) -> Sequence[Row] | None:
        """Return the rows of columns in feature order; None if a value may be wrong."""
        for at, feature in enumerate(self._features):
            column = valid_column(columns[at], feature, self._longest[feature.name])
            if column is None:
                return None
            columns[at] = column
        return rows_of_columns(columns, self._only_numbers)

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the body for OpenAPI, generated from the schema that validates."""
        return {"oneOf": [GenerateJsonSchema().generate(schema) for schema in self._schemas]}


def _longest(feature: Feature) -> int:
    """Return the number of characters of the longest text that a feature takes by default."""
    return max(TEXT_CHARACTERS, TEXT_TIMES_LONGEST * (feature.longest or 0))


def _object(fields: dict[str, core_schema.TypedDictField]) -> CoreSchema:
    # pydantic-core returns the keys in the order of these fields, whatever their order in the body: in feature order.
    return core_schema.typed_dict_schema(fields, extra_behavior="forbid")


def _field(feature: Feature, number: Callable[[Feature], CoreSchema], longest: int) -> core_schema.TypedDictField:
    schema = _value(feature, number, longest)
    updates: dict[str, Any] = {"description": _description(feature)}
    if feature.known is not None:
        schema = core_schema.no_info_after_validator_function(_one_of(frozenset(feature.known)), schema)
        updates["enum"] = feature.known
    schema["metadata"] = {"pydantic_js_updates": updates}  # type: ignore[index]
    if not feature.nullable:
        return core_schema.typed_dict_field(schema)
    optional = core_schema.with_default_schema(core_schema.nullable_schema(schema), default=None)
    return core_schema.typed_dict_field(optional, required=False)


def _value(feature: Feature, number: Callable[[Feature], CoreSchema], longest: int) -> CoreSchema:
    if feature.type == "number":
        return number(feature)
    if feature.type == "boolean":
        return core_schema.bool_schema(strict=True)
    return core_schema.str_schema(strict=True, max_length=longest)


def _small_number(feature: Feature) -> CoreSchema:
    # A strict float takes integers, but neither true nor "5.1".
    below = min(EXACT_MAX, feature.magnitude or EXACT_MAX)
    return core_schema.float_schema(strict=True, allow_inf_nan=False, gt=-below, lt=below)


def _number(feature: Feature) -> CoreSchema:
    greatest = feature.magnitude
    if feature.dtype.lower().startswith(("int", "uint")):
        # Not 2**53 itself: JSON's reader makes that of 9007199254740993.0 too.
        greatest = EXACT_MAX - 1
    least = None if greatest is None else -greatest
    number = core_schema.float_schema(strict=True, allow_inf_nan=False, ge=least, le=greatest)
    return core_schema.no_info_before_validator_function(_exact, number)


def _one_of(known: frozenset[Any]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value not in known:
            raise _UNKNOWN_VALUE
        return value

    return check


def _exact(value: Any) -> Any:
    """Refuse a whole number, written without a point or exponent, that float64 would round."""
    if type(value) is int:
        try:
            as_float = float(value)
        except OverflowError:
            return math.inf
        if int(as_float) != value:
            raise _INEXACT
    return value


def _description(feature: Feature) -> str:
    if feature.minimum is not None and feature.maximum is not None:
        return f"In training from {feature.minimum:g} to {feature.maximum:g}."
    if feature.categories:
        shown = ", ".join(feature.categories[:CATEGORIES_SHOWN])
        return f"In training: {shown}{', …' if len(feature.categories) > CATEGORIES_SHOWN else ''}."
    return "true or false." if feature.type == "boolean" else "Any text."
