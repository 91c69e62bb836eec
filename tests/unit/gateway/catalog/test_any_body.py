"""Robustness against callers: no bytes, headers or query make the gateway fail with an error of its own."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from gateway.app import create_app
from gateway.catalog.row_parser import RowParser
from gateway.settings import GatewaySettings
from tests.support.any_bytes import PROBLEM_MAX_BYTES, check_body, check_manifest
from tests.support.fuzzing import bodies, changed, fuzzed
from tests.support.manifests import classifier, feature, flag, mixed, stored, text

MANIFEST = mixed(
    feature("size"), feature("weight", nullable=True), text("colour"), text("note", None, nullable=True), flag("new")
)
PARSER = RowParser(MANIFEST, 3)

STICKS = classifier()
INSTANCES = mixed(feature("instances", nullable=True), text("x"))
"""A manifest with a feature that is called `instances` like the list of rows."""
INSTANCES_PARSER = RowParser(INSTANCES, 3)

PATHS = ["/predict", "/predict", "/jobs", "/models/sticks/predict", "/models/sticks/versions/v1/jobs", "/models/ü/jobs"]
PREFERENCES = [b"wait=", b"wait=", b'wait = "9', b"respond-async", b"respond-async, wait=", b"return=minimal; wait"]
OTHERS = [b"content-length", b"idempotency-key", b"traceparent", b"x-request-id", b"x-split-key"]
BEGINNINGS = [b"", b"0", b"9" * 5000, b"00-" + b"1" * 32 + b"-" + b"1" * 16 + b"-"]


def headers() -> st.SearchStrategy[list[tuple[bytes, bytes]]]:
    """Return a strategy of headers with real names and nearly real values."""

    def named(names: list[bytes], beginnings: list[bytes]) -> st.SearchStrategy[tuple[bytes, bytes]]:
        value = st.builds(bytes.__add__, st.sampled_from(beginnings), st.binary(max_size=9))
        return st.tuples(st.sampled_from(names), value)

    some = st.lists(named(OTHERS, BEGINNINGS), max_size=3)
    return some | st.builds(lambda first, others: [first, *others], named([b"prefer"], PREFERENCES), some)


@fuzzed(200)
@given(bodies(MANIFEST.features))
def test_a_body_is_rows_or_a_problem_of_the_caller(body: bytes) -> None:
    check_body(PARSER, MANIFEST, body)


@fuzzed(60)
@given(bodies(INSTANCES.features))
def test_a_feature_that_is_called_instances_confuses_nothing(body: bytes) -> None:
    check_body(INSTANCES_PARSER, INSTANCES, body)


@fuzzed(80)
@given(changed(orjson.loads(MANIFEST.model_dump_json())) | changed(orjson.loads(STICKS.model_dump_json())))
def test_a_manifest_is_invalid_or_good_for_everything(content: Any) -> None:
    check_manifest(json.dumps(content).encode())


def test_no_request_is_an_error_of_the_gateway(tmp_path: Path) -> None:
    stored(tmp_path / "models", STICKS)
    settings = GatewaySettings(
        # No Redis listens on this port: the gateway answers a good request soon with 503, or 504 if it was slow.
        redis_url="redis://127.0.0.1:1/0",
        model_store=str(tmp_path / "models"),
        default_model="sticks",
        predict_deadline_seconds=0.01,
        body_max_bytes=1000,
    )
    with running(create_app(settings)) as asked:

        @fuzzed(150)
        @given(
            st.sampled_from(PATHS),
            headers(),
            st.sampled_from([b"", b"deadline=1e-9", b"deadline=nan", b"deadline", b"%ff=%00"]) | st.binary(max_size=30),
            bodies(STICKS.features),
            st.none() | st.integers(0, 50),
        )
        def ask(path: str, more: list[tuple[bytes, bytes]], query: bytes, body: bytes, cut: int | None) -> None:
            pieces = [body] if cut is None else [body[:cut], body[cut:]]
            start, content = asked(path, [(b"content-type", b"application/json"), *more], query, pieces)
            problem = orjson.loads(content)
            assert start["status"] == problem["status"]
            assert (b"content-type", b"application/problem+json") in start["headers"]
            kind = problem["type"].removeprefix("urn:headrace:problem:")
            late = kind in ("no_worker", "broker_unavailable", "deadline_exceeded")
            assert problem["status"] in (400, 404, 413, 422) or late, problem
            assert len(content) < PROBLEM_MAX_BYTES

        ask()


Ask = Callable[[str, list[tuple[bytes, bytes]], bytes, list[bytes]], tuple[Message, bytes]]


@contextmanager
def running(app: FastAPI) -> Iterator[Ask]:
    """Run a gateway; yield a function that sends a POST request by ASGI and returns start and body of the response."""
    loop = asyncio.new_event_loop()
    context = app.router.lifespan_context(app)

    async def answer(path: str, headers: Any, query: bytes, pieces: list[bytes]) -> tuple[Message, bytes]:
        scope = {"type": "http", "method": "POST", "path": path, "query_string": query, "headers": headers}
        chunks = iter(pieces)
        left = len(pieces)
        sent: list[Message] = []

        async def receive() -> Message:
            nonlocal left
            left -= 1
            return {"type": "http.request", "body": next(chunks), "more_body": left > 0}

        async def send(message: Message) -> None:
            sent.append(message)

        await app(scope, receive, send)
        return sent[0], b"".join(message.get("body", b"") for message in sent)

    loop.run_until_complete(context.__aenter__())
    try:
        yield lambda *asked: loop.run_until_complete(answer(*asked))
    finally:
        loop.run_until_complete(context.__aexit__(None, None, None))
        loop.close()
