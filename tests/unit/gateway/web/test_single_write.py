"""Answers in one write, on a transport that keeps what it is given."""

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest
from starlette.types import Message
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.api.endpoint import Encoded
from gateway.metrics import GatewayMetrics
from gateway.web.middleware import Observed
from gateway.web.single_write import WHOLE, send_whole
from tests.support.coroutines import run

HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"2")]


class RawConnection(asyncio.Transport):
    """Keeps each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True


def cycle(wire: RawConnection, keep_alive: bool = True) -> RequestResponseCycle:
    logger = logging.getLogger(__name__)
    scope: Any = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
    return RequestResponseCycle(
        scope=scope,
        transport=wire,
        flow=FlowControl(wire),
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
    wire = RawConnection()
    answering = cycle(wire)

    assert send_whole(answering, 200, HEADERS, b"ok")

    head = b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n"
    assert wire.writes == [head + b"ok"]
    assert answering.response_complete and answering.message_event.is_set()
    assert not wire.closed


def test_a_connection_that_is_not_kept_is_told_and_closed() -> None:
    wire = RawConnection()

    assert send_whole(cycle(wire, keep_alive=False), 200, HEADERS, b"ok")

    assert b"\r\nconnection: close\r\n\r\nok" in wire.writes[0]
    assert wire.closed


@pytest.mark.parametrize("why", ["response_started", "disconnected", "write_paused"])
def test_what_can_not_leave_at_once_goes_the_usual_way(why: str) -> None:
    wire = RawConnection()
    answering = cycle(wire)
    setattr(answering.flow if why == "write_paused" else answering, why, True)

    assert not send_whole(answering, 200, HEADERS, b"ok")
    assert wire.writes == []


def test_the_usual_way_sends_the_same() -> None:
    whole, usual = RawConnection(), RawConnection()

    async def scenario() -> None:
        for wire in (whole, usual):
            answering: Any = cycle(wire)
            scope = answering.scope
            if wire is whole:
                scope[WHOLE] = lambda *answer, answering=answering: send_whole(answering, *answer)
            scope["headers"] = [(b"x-request-id", b"7")]

            async def receive() -> Message:
                raise AssertionError("nothing is asked for")

            observed = Observed(Encoded(b"{}", 200, [(b"retry-after", b"1")]), GatewayMetrics())
            await observed(scope, receive, answering.send)

    run(scenario())
    assert len(whole.writes) == 1
    assert len(usual.writes) == 2
    assert b"".join(whole.writes) == b"".join(usual.writes)
    assert b"x-request-id: 7\r\n" in whole.writes[0]


def test_an_answered_request_needs_no_garbage_collector() -> None:
    async def scenario() -> "weakref.ref[RequestResponseCycle]":
        answering: Any = cycle(RawConnection())
        scope = answering.scope
        scope[WHOLE] = lambda *answer: True
        await Observed(Encoded(b"{}", 200, []), GatewayMetrics())(scope, answering.receive, answering.send)
        return weakref.ref(answering)

    gc.disable()
    try:
        assert run(scenario())() is None
    finally:
        gc.enable()
