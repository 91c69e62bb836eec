"""The order of a stop: first the answers, then uvicorn hears of it, and late requests are cancelled."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from uvicorn import Config, Server

from gateway.settings import GatewaySettings
from gateway.web import graceful_stop
from gateway.web.graceful_stop import GatewayProcesses, GracefulStop
from gateway.web.slow_clients import ConnectionMonitor
from tests.support.coroutines import run, turns, until


class Stopping:
    """A server with requests, and its stop."""

    def __init__(self) -> None:
        self.server = Server(Config("none", log_config=None))
        self.monitor = ConnectionMonitor(GatewaySettings(), lambda reason: None)
        self.released = 0
        self.stop = GracefulStop(self.monitor, self.release)

    def release(self) -> None:
        self.released += 1

    def request(self, seconds: float) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(asyncio.sleep(seconds))
        self.server.server_state.tasks.add(task)
        task.add_done_callback(self.server.server_state.tasks.discard)
        return task


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> Stopping:
    monkeypatch.setattr(graceful_stop, "END_SECONDS", 0.01)
    return Stopping()


@contextmanager
def signals_of(server: Server) -> Iterator[None]:
    """Handle signals as a running server does."""
    before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_server_hears_of_the_signal_when_the_requests_are_answered(
    stopping: Stopping, number: signal.Signals
) -> None:
    async def scenario() -> None:
        with signals_of(stopping.server):
            stopping.stop.take_over()
            request = stopping.request(1000)
            signal.raise_signal(number)
            assert stopping.stop.begun
            await turns()
            assert stopping.monitor.stopping and stopping.released == 1
            assert not stopping.server.should_exit

            request.cancel()
            await until("the server is told", lambda: stopping.server.should_exit)
            await stopping.stop.close()

    run(scenario())


def test_without_requests_it_hears_at_once(stopping: Stopping) -> None:
    async def scenario() -> None:
        with signals_of(stopping.server):
            stopping.stop.take_over()
            signal.raise_signal(signal.SIGTERM)
            await turns()
            assert stopping.server.should_exit
            await stopping.stop.close()

    run(scenario())


def test_a_second_signal_does_not_wait_for_requests(stopping: Stopping) -> None:
    async def scenario() -> None:
        with signals_of(stopping.server):
            stopping.stop.take_over()
            request = stopping.request(1000)
            signal.raise_signal(signal.SIGINT)
            await turns()
            signal.raise_signal(signal.SIGINT)
            assert stopping.server.should_exit and not stopping.server.force_exit
            request.cancel()
            await stopping.stop.close()

    run(scenario())


def test_requests_that_take_too_long_are_cancelled_also_those_that_came_later(
    stopping: Stopping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graceful_stop, "DRAIN_SECONDS", 1.0)

    async def scenario() -> None:
        with signals_of(stopping.server):
            stopping.stop.take_over()
            started = time.monotonic()
            requests = [stopping.request(0.01)]
            signal.raise_signal(signal.SIGTERM)
            await until("the server is told", lambda: stopping.server.should_exit)
            requests += [stopping.request(1000), stopping.request(0.01)]
            await asyncio.wait(requests)
            assert [request.cancelled() for request in requests] == [False, True, False]
            assert time.monotonic() - started >= 1.0
            await stopping.stop.close()

    run(scenario())


def test_without_a_server_the_signals_stay_as_they_are(stopping: Stopping) -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def scenario() -> None:
        stopping.stop.take_over()
        await stopping.stop.close()

    run(scenario())
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_supervisor_stops_listening_with_its_processes() -> None:
    closed: list[Any] = []

    class Socket:
        def close(self) -> None:
            closed.append(self)

    listening: Any = Socket()
    before = {number: signal.getsignal(number) for number in range(1, signal.NSIG) if number in signal.valid_signals()}
    try:
        processes = GatewayProcesses(Config("none", log_config=None), [listening])
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is not handler and handler is not None:
                signal.signal(number, handler)
    processes.terminate_all()
    assert closed == [listening]
