"""Rows and answers of one model in OpenAPI: its features, classes and examples."""

import copy
from typing import Any, NamedTuple

from gateway.catalog.served_model import ServedModel
from headrace.models.fields import class_key
from headrace.models.made_up import example_row, flat_row
from headrace.models.manifest import Manifest, Output, Sample

REF = "#/components/schemas/"

ROWS, ANSWERS = "Rows", ("ModelPrediction", "ModelPredictions")
"""Names of the schemas of the model that a document is about."""

_TIMING = {"queue_ms": 1.2, "compute_ms": 0.4, "total_ms": 2.1}

Json = dict[str, Any]


class Described(NamedTuple):
    """Schemas and examples for the routes of a model, or of any."""

    rows: Json
    answers: tuple[str, str]
    """Names of the schemas of the answers to one row and to several."""
    examples: dict[str, Json]
    """By name: `request`, and `answer` if the manifest tells it."""
    infer_example: Json | None = None
    """A request of the Open Inference Protocol."""


ANY_MODEL = Described({"type": "object"}, ("Prediction", "Predictions"), {})
"""Routes of any model: `GET /models/{name}` tells the features of one."""


def described(served: ServedModel) -> Described:
    """Return the schemas and examples for the routes of a version."""
    return Described({"$ref": REF + ROWS}, ANSWERS, row_examples(served.manifest), _infer_example(served.manifest))


def schemas_of(served: ServedModel, generic: Json) -> Json:
    """Return the schemas of the rows and answers of a version; the latter are the generic ones with its classes."""
    manifest = served.manifest
    schemas: Json = {ROWS: served.parser.json_schema(), "Value": _each(manifest, _value)}
    if manifest.probabilities:
        schemas["Probabilities"] = _each(manifest, _shares)
    for name, base, many in zip(ANSWERS, ("Prediction", "Predictions"), (False, True), strict=True):
        schema = copy.deepcopy(generic[base])
        properties = schema["properties"]
        properties["model"]["const"] = manifest.name
        properties["predictions" if many else "prediction"] = _ref("Value", many)
        if manifest.probabilities:
            properties["probabilities"] = _ref("Probabilities", many)
        else:
            del properties["probabilities"]
        schemas[name] = schema
    return schemas


def row_examples(manifest: Manifest) -> dict[str, Json]:
    """Return examples of requests, with their answers where the model has sample rows."""
    samples = manifest.samples[:2]
    rows = [flat_row(manifest, row) for row in [sample.row for sample in samples] or [example_row(manifest)]]
    one: Json = {"request": rows[0]}
    many: Json = {"request": {"instances": rows}}
    if samples:
        values = [_predicted(manifest, sample) for sample in samples]
        rest = {"model": manifest.name, "version": manifest.version, "timing": _TIMING}
        one["answer"] = {**values[0], **rest}
        plural = {"prediction": "predictions", "probabilities": "probabilities"}
        many["answer"] = {plural[name]: [each[name] for each in values] for name in values[0]} | rest
    return {"one row": one, "instances": many}


def _ref(name: str, many: bool) -> Json:
    ref = {"$ref": REF + name}
    return {"type": "array", "items": ref} if many else ref


def _each(manifest: Manifest, describe: Any) -> Json:
    """Return the schema of what a row gets: of several outputs, an object by output."""
    if len(manifest.outputs) == 1:
        return describe(manifest.outputs[0])  # type: ignore[no-any-return]
    return _object({output.name: describe(output) for output in manifest.outputs})


def _value(output: Output) -> Json:
    return {"type": "number"} if output.classes is None else {"enum": list(output.classes)}


def _shares(output: Output) -> Json:
    return _object({class_key(label): {"type": "number"} for label in output.classes or ()})


def _object(properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def _predicted(manifest: Manifest, sample: Sample) -> Json:
    """Return the members of an answer that tell a sample's prediction."""
    outputs = manifest.outputs
    several = len(outputs) > 1
    values: Any = sample.prediction
    found: Json = {"prediction": _by_name(outputs, values) if several else values}
    if manifest.probabilities and sample.probabilities is not None:
        shares: Any = sample.probabilities if several else [sample.probabilities]
        keyed = [_by_class(output, each) for output, each in zip(outputs, shares, strict=True)]
        found["probabilities"] = _by_name(outputs, keyed) if several else keyed[0]
    return found


def _by_name(outputs: Any, values: Any) -> Json:
    return {output.name: value for output, value in zip(outputs, values, strict=True)}


def _by_class(output: Output, shares: Any) -> Json:
    return dict(zip(map(class_key, output.classes or ()), shares, strict=True))


def _infer_example(manifest: Manifest) -> Json | None:
    """Return an inference request for one row; None if it has a missing value, which JSON tensors don't show well."""
    row, features = example_row(manifest), manifest.features
    if None in row:
        return None
    if all(feature.type == "number" for feature in features):
        return {"inputs": [{"name": "input-0", "datatype": "FP64", "shape": [1, len(row)], "data": row}]}
    datatypes = {"number": "FP64", "boolean": "BOOL", "string": "BYTES"}
    inputs = [
        {"name": feature.name, "datatype": datatypes[feature.type], "shape": [1, 1], "data": [value]}
        for feature, value in zip(features, row, strict=True)
    ]
    return {"inputs": inputs}
