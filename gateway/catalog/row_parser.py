"""Parser of a model's rows: reads and checks the raw body in one pass, by a schema made from the manifest."""

import re
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import CoreSchema, SchemaValidator, core_schema

from gateway.errors import InvalidJson, InvalidRows
from headrace.models.manifest import Feature, Manifest
from shared.queue.contract import Row

INSTANCES = "instances"
_HAS_INSTANCES = re.compile(rb'"instances"\s*:')

TEXT_MAX_CHARACTERS = 10_000
"""Longest value of a feature of type string."""

CATEGORIES_SHOWN = 10
"""Number of categories that the description of a feature lists."""

_TYPES: dict[str, set[type]] = {"number": {float, int}, "boolean": {bool}, "string": {str}}
"""Python types that a JSON value of each feature type is parsed to."""


@dataclass(frozen=True)
class ParsedRows:
    """The rows of a request, in feature order."""

    rows: list[Row]

    single: bool
    """True if the body was one flat object, which gets a flat answer."""


class RowParser:
    """Parser of `{feature: value, ...}` and of `{"instances": [{feature: value, ...}, ...]}`, for one manifest."""

    def __init__(self, manifest: Manifest, rows_max: int) -> None:
        row = _object({feature.name: _feature_schema(feature) for feature in manifest.features})
        self._schemas = (row, _object({INSTANCES: core_schema.list_schema(row, min_length=1, max_length=rows_max)}))
        self._row, self._instances = map(SchemaValidator, self._schemas)
        self._features = manifest.features
        self._has_feature_instances = any(feature.name == INSTANCES for feature in manifest.features)
        # With a single name itemgetter returns the bare value. The repeated first name makes it return a tuple; its
        # column is dropped again.
        self._values = itemgetter(*(feature.name for feature in manifest.features), manifest.features[0].name)
        self._rows_max = rows_max

    def parse(self, body: bytes) -> ParsedRows:
        """Return the rows in feature order.

        Raises:
            InvalidJson: if the body is not JSON.
            InvalidRows: if the body is JSON, but not rows of this model.
        """
        try:
            if self._is_instances(body):
                rows = self._parse_valid(body)
                if rows is None:
                    parsed = self._instances.validate_json(body)
                    rows = [list(row.values()) for row in parsed[INSTANCES]]
                return ParsedRows(rows, single=False)
            return ParsedRows([list(self._row.validate_json(body).values())], single=True)
        except ValidationError as error:
            raise _refusal(error) from None

    def _is_instances(self, body: bytes) -> bool:
        # The pattern includes the colon, since "instances" may also be the value of a feature.
        if not _HAS_INSTANCES.search(body):
            return False
        if self._has_feature_instances:
            # The value of a feature is never a list, so a list holds the instances.
            try:
                return isinstance(orjson.loads(body)[INSTANCES], list)
            except (ValueError, KeyError, TypeError):
                pass
        return True

    def _parse_valid(self, body: bytes) -> list[Row] | None:
        """Return the rows of valid instances, in a fraction of the validator's time.

        Returns None if anything is wrong: the validator then finds out what. This method accepts nothing that the
        validator refuses. It checks column by column, without a Python loop over values.
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
        """Return the JSON Schema of the body for OpenAPI, generated from the schema that validates."""
        return {"oneOf": [GenerateJsonSchema().generate(schema) for schema in self._schemas]}


def _object(fields: dict[str, CoreSchema]) -> CoreSchema:
    # pydantic-core returns the keys in the order of these fields, whatever their order in the body: in feature order.
    return core_schema.typed_dict_schema(
        {name: core_schema.typed_dict_field(schema) for name, schema in fields.items()}, extra_behavior="forbid"
    )


def _feature_schema(feature: Feature) -> CoreSchema:
    # A strict float takes integers, but neither true nor "5.1".
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


def _refusal(error: ValidationError) -> InvalidJson | InvalidRows:
    mistakes = error.errors(include_url=False, include_input=False, include_context=False)
    if mistakes[0]["type"] == "json_invalid":
        return InvalidJson(mistakes[0]["msg"])
    return InvalidRows([(mistake["loc"], mistake["msg"]) for mistake in mistakes])


def flat_row(manifest: Manifest, row: Row) -> dict[str, Any]:
    """Return a row as the flat object that a caller would send."""
    return dict(zip((feature.name for feature in manifest.features), row, strict=True))
