"""Properties of the parsers that hold for any bytes.

Hypothesis generates such bytes, and atheris searches for them; both use these functions.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gateway.api.statuses import problem_of
from gateway.catalog.row_parser import RowParser
from gateway.errors import InvalidJson, InvalidRows
from headrace.errors import ManifestInvalid
from headrace.models.manifest import Manifest
from shared.queue.contract import (
    PREDICT_TASK,
    RUN_JOBS_TASK,
    SHADOW_TASK,
    Message,
    PredictMessage,
    Row,
    RunJobsMessage,
    ShadowMessage,
)
from shared.queue.dead_letters import DeadLetter, read
from shared.queue.entry import problem
from shared.queue.entry import read as read_entry

PROBLEM_MAX_BYTES = 5000
MESSAGES: Mapping[str, type[Message]] = {
    PREDICT_TASK: PredictMessage,
    RUN_JOBS_TASK: RunJobsMessage,
    SHADOW_TASK: ShadowMessage,
}


def check_body(parser: RowParser, manifest: Manifest, body: bytes) -> None:
    """Check that a body is rows of the model or a short 400 or 422, and that accepted rows are the same when sent
    again.


    """
    try:
        parsed = parser.parse(body)
    except (InvalidJson, InvalidRows) as refusal:
        problem = problem_of(refusal)
        assert orjson.loads(problem.body())["status"] == problem.status
        assert len(problem.body()) < PROBLEM_MAX_BYTES, "the input is echoed"
        return
    check_rows(manifest, parsed.rows)
    rows = [dict(zip((feature.name for feature in manifest.features), row, strict=True)) for row in parsed.rows]
    again = parser.parse(orjson.dumps(rows[0] if parsed.single else {"instances": rows}))
    assert (repr(again.rows), again.single) == (repr(parsed.rows), parsed.single)


def check_rows(manifest: Manifest, rows: Sequence[Row]) -> None:
    """Check that rows are such of a model."""
    assert rows
    for row in rows:
        assert len(row) == len(manifest.features)
        for value, feature in zip(row, manifest.features, strict=True):
            expected = {"number": float, "string": str, "boolean": bool}[feature.type]
            assert type(value) is expected or (value is None and feature.nullable)
            assert not isinstance(value, float) or math.isfinite(value)


def check_entry(entry: bytes) -> bool:
    """Check that a queue entry is valid, or becomes a dead letter that keeps it; return True if it is valid."""
    reason = problem(entry)
    found = read_entry(entry)
    if found is None:
        assert reason is not None
        letter = read(DeadLetter.of(entry, "bulk", reason, 1.0).model_dump_json().encode())
        assert letter is not None
        assert letter.content == entry
        return False
    assert reason is None
    assert isinstance(found.payload, str)
    check_payload(MESSAGES[found.task], found.payload)
    return True


def check_payload(of: type[Message], payload: str | bytes) -> None:
    """Check that the text of an entry is a message or a ValueError, and that a message survives another journey."""
    try:
        message = of.from_json(payload)
    except ValueError:
        return
    assert of.from_json(message.to_json()) == message


def check_manifest(content: bytes) -> None:
    """Check that a manifest is invalid, or that the gateway can derive everything from it."""
    try:
        manifest = Manifest.parse(content, "here")
    except ManifestInvalid as error:
        assert str(error).startswith("here: ")
        return
    assert Manifest.parse(manifest.model_dump_json().encode(), "again") == manifest
    parser = RowParser(manifest, 10)
    document: Any = orjson.loads(orjson.dumps(parser.json_schema()))
    assert len(document["oneOf"]) == 2
    check_body(parser, manifest, b"{}")
