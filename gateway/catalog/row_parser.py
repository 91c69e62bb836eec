"""Rows of one model: parsed from the raw body and checked in one pass, by a schema made from the manifest."""

import re
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, SchemaValidator, core_schema

from gateway.problems import invalid_rows
from headrace.models.manifest import Feature, Manifest
from shared.queue.contract import Row

INSTANCES = "instances"
_HAS_INSTANCES = re.compile(rb'"instances"\s*:')
TEXT_MAX_CHARACTERS = 10_000
_TYPES: dict[str, set[type]] = {"number": {float, int}, "boolean": {bool}, "string": {str}}
CATEGORIES_SHOWN = 10


@dataclass(frozen=True)
class ParsedRows:
    """The rows of a request; `single` if it was one flat object, whose answer is flat too."""

    rows: list[Row]
    single: bool


class RowParser:
    """Reads `{feature: value, ...}` or `{"instances": [{feature: value, ...}, ...]}`."""

    def __init__(self, manifest: Manifest, rows_max: int) -> None:
        row = _object({feature.name: _feature_schema(feature) for feature in manifest.features})
        self._schemas = (row, _object({INSTANCES: core_schema.list_schema(row, min_length=1, max_length=rows_max)}))
        self._row, self._instances = map(SchemaValidator, self._schemas)
        self._features = manifest.features
        self._has_feature_instances = any(feature.name == INSTANCES for feature in manifest.features)
        # With one name it would give the value itself; a second one makes it a tuple, and is dropped again.
        self._values = itemgetter(*(feature.name for feature in manifest.features), manifest.features[0].name)
        self._rows_max = rows_max

    def parse(self, body: bytes) -> ParsedRows:
        """The rows in feature order.

        Raises:
            Problem: 400 if it is not JSON, 422 if it is not rows of this model.
        """
        try:
            if self._is_instances(body):
                rows = self._quick(body)
                if rows is None:
                    parsed = self._instances.validate_json(body)
                    rows = [list(row.values()) for row in parsed[INSTANCES]]
                return ParsedRows(rows, single=False)
            return ParsedRows([list(self._row.validate_json(body).values())], single=True)
        except ValidationError as error:
            raise invalid_rows(error) from None

    def _is_instances(self, body: bytes) -> bool:
        # With the colon: it may also be the text of a feature.
        if not _HAS_INSTANCES.search(body):
            return False
        if self._has_feature_instances:
            # No value is a list, so a list are the instances.
            try:
                return isinstance(orjson.loads(body)[INSTANCES], list)
            except (ValueError, KeyError, TypeError):
                pass
        return True

    def _quick(self, body: bytes) -> list[Row] | None:
        """The rows of instances with everything as it should be, else None: the validator then says what is wrong.

        It accepts no more than the validator, and checks column by column, without a Python loop over values.
        """
        try:
            parsed = orjson.loads(body)
            instances = parsed[INSTANCES]
            if len(parsed) > 1 or not 0 < len(instances) <= self._rows_max:
                return None
            columns = [*zip(*map(self._values, instances), strict=True)][:-1]
        except (ValueError, KeyError, TypeError):
            return None
        if set(map(type, instances)) != {dict} or set(map(len, instances)) != {len(columns)}:
            return None
        for at, feature in enumerate(self._features):
            types = set(map(type, columns[at]))
            if feature.nullable:
                types.discard(type(None))
            if types - _TYPES[feature.type]:
                return None
            if int in types:
                columns[at] = tuple(None if value is None else float(value) for value in columns[at])
            elif str in types and max(map(len, filter(None, columns[at])), default=0) > TEXT_MAX_CHARACTERS:
                return None
        return [*map(list, zip(*columns, strict=True))]

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema of the body, for OpenAPI: made from what validates."""
        return {"oneOf": [GenerateJsonSchema().generate(schema) for schema in self._schemas]}


def _object(fields: dict[str, CoreSchema]) -> CoreSchema:
    # The parsed dict has the order of these fields, whatever the order in the body: that is the feature order.
    return core_schema.typed_dict_schema(
        {name: core_schema.typed_dict_field(schema) for name, schema in fields.items()}, extra_behavior="forbid"
    )


def _feature_schema(feature: Feature) -> CoreSchema:
    # Strict: neither true nor "5.1" is a number. Integers are.
    schema: CoreSchema
    if feature.type == "number":
        schema = core_schema.float_schema(strict=True, allow_inf_nan=False)
    elif feature.type == "boolean":
        schema = core_schema.bool_schema(strict=True)
    else:
        schema = core_schema.str_schema(strict=True, max_length=TEXT_MAX_CHARACTERS)
    schema["metadata"] = {"pydantic_js_updates": {"description": _description(feature)}}
    return core_schema.nullable_schema(schema) if feature.nullable else schema


def _description(feature: Feature) -> str:
    if feature.minimum is not None and feature.maximum is not None:
        return f"In training from {feature.minimum:g} to {feature.maximum:g}."
    if feature.categories:
        shown = ", ".join(feature.categories[:CATEGORIES_SHOWN])
        return f"In training: {shown}{', …' if len(feature.categories) > CATEGORIES_SHOWN else ''}."
    return "true or false." if feature.type == "boolean" else "Any text."


def flat_row(manifest: Manifest, row: Row) -> dict[str, Any]:
    """A row as a caller would send it."""
    return dict(zip((feature.name for feature in manifest.features), row, strict=True))
