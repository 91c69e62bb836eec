"""Responses in one write, on a transport that records what is written."""

import asyncio
import gc
import logging
import weakref
from functools import partial
from typing import Any

import pytest
from starlette.types import Message
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.api.responses import EncodedResponse
from gateway.metrics import GatewayMetrics
from gateway.web.answers import PIECE_BYTES
from gateway.web.middleware import RequestMiddleware
from gateway.web.request_context import CONTEXT, RequestContext
from gateway.web.single_write import write_response
from tests.support.coroutines import run, turns
from tests.unit.gateway.web.transports import RecordingTransport

HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"2")]


def cycle(transport: RecordingTransport, keep_alive: bool = True) -> RequestResponseCycle:
    logger = logging.getLogger(__name__)
    scope: Any = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
    return RequestResponseCycle(
        scope=scope,
        transport=transport,
        flow=FlowControl(transport),
        logger=logger,
        access_logger=logger,
        access_log=False,
        default_headers=[(b"date", b"today")],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=keep_alive,
        on_response=lambda: None,
    )


def test_head_and_body_leave_together() -> None:
    transport = RecordingTransport()
    request_cycle = cycle(transport)

    assert write_response(request_cycle, 200, HEADERS, b"ok")

    head = b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n"
    assert transport.writes == [head + b"ok"]
    assert request_cycle.response_complete and request_cycle.message_event.is_set()
    assert not transport.closed


def test_a_connection_that_is_not_kept_is_told_and_closed() -> None:
    transport = RecordingTransport()

    assert write_response(cycle(transport, keep_alive=False), 200, HEADERS, b"ok")

    assert b"\r\nconnection: close\r\n\r\nok" in transport.writes[0]
    assert transport.closed


@pytest.mark.parametrize("why", ["response_started", "disconnected", "write_paused"])
def test_what_can_not_leave_at_once_goes_the_usual_way(why: str) -> None:
    transport = RecordingTransport()
    request_cycle = cycle(transport)
    setattr(request_cycle.flow if why == "write_paused" else request_cycle, why, True)

    assert not write_response(request_cycle, 200, HEADERS, b"ok")
    assert transport.writes == []


def test_a_large_answer_does_not_leave_at_once() -> None:
    transport = RecordingTransport()
    body = b"x" * (2 * PIECE_BYTES + 1)

    async def scenario() -> None:
        request_cycle: Any = cycle(transport)
        scope = request_cycle.scope
        scope[CONTEXT] = RequestContext(partial(write_response, request_cycle))
        answered = asyncio.ensure_future(
            RequestMiddleware(EncodedResponse(body, 200, []), GatewayMetrics())(
                scope, request_cycle.receive, request_cycle.send
            )
        )
        request_cycle.flow.pause_writing()
        await turns()
        assert transport.writes == [], "nothing is written that the caller does not take"
        request_cycle.flow.resume_writing()
        await answered

    run(scenario())
    head, *pieces = transport.writes
    assert head.endswith(b"\r\n\r\n") and b"".join(pieces) == body
    assert max(map(len, pieces)) == PIECE_BYTES


def test_the_usual_way_sends_the_same() -> None:
    whole, usual = RecordingTransport(), RecordingTransport()

    async def scenario() -> None:
        for transport in (whole, usual):
            request_cycle: Any = cycle(transport)
            scope = request_cycle.scope
            if transport is whole:
                scope[CONTEXT] = RequestContext(partial(write_response, request_cycle))
            scope["headers"] = [(b"x-request-id", b"7")]

            async def receive() -> Message:
                raise AssertionError("nothing is asked for")

            observed = RequestMiddleware(EncodedResponse(b"{}", 200, [(b"retry-after", b"1")]), GatewayMetrics())
            await observed(scope, receive, request_cycle.send)

    run(scenario())
    assert len(whole.writes) == 1
    assert len(usual.writes) == 2
    assert b"".join(whole.writes) == b"".join(usual.writes)
    assert b"x-request-id: 7\r\n" in whole.writes[0]


def test_an_answered_request_needs_no_garbage_collector() -> None:
    async def scenario() -> "weakref.ref[RequestResponseCycle]":
        request_cycle: Any = cycle(RecordingTransport())
        scope = request_cycle.scope
        scope[CONTEXT] = RequestContext(lambda *response: True)
        middleware = RequestMiddleware(EncodedResponse(b"{}", 200, []), GatewayMetrics())
        await middleware(scope, request_cycle.receive, request_cycle.send)
        return weakref.ref(request_cycle)

    gc.disable()
    try:
        assert run(scenario())() is None
    finally:
        gc.enable()
