"""The stop of a gateway process: every caller gets an answer before the connections end.

By itself, uvicorn stops listening at the signal, waits for what runs, and then cancels it, which callers see as a bare
500. Here the signal comes first to `GracefulStop`: callers who wait for jobs get the present state, and uvicorn hears
of the signal when the requests that were in progress are answered. Until then the process listens, so that a probe of
`/readyz` sees what is going on; with nothing in progress it stops at once.
"""

import asyncio
import logging
import signal
from collections.abc import Callable
from types import FrameType

import uvicorn
from uvicorn.supervisors import Multiprocess

from gateway.web.http_protocol import HttpProtocol
from gateway.web.slow_clients import ConnectionMonitor

logger = logging.getLogger(__name__)

DRAIN_SECONDS = 10.0
"""Time from the signal for which requests may wait for their answers; then they get 503."""

CHECK_SECONDS = 0.02
"""Time between two looks at whether all requests are answered."""

END_SECONDS = 3.0
"""Time after that in which connections end; callers who are still sending have `HURRIED_SECONDS` of it."""


class GracefulStop:
    """The stop of this process, which begins with SIGTERM or SIGINT."""

    def __init__(self, monitor: ConnectionMonitor, release_waiting: Callable[[], None]) -> None:
        """Prepare.

        Args:
            monitor: tells connections that the process stops.
            release_waiting: makes callers who wait for jobs get the present state, those who come later too.
        """
        self._monitor = monitor
        self._release_waiting = release_waiting
        self._stopping: asyncio.Task[None] | None = None
        self.begun = False
        """True from the signal on."""

    def take_over(self) -> None:
        """Take the signals over from uvicorn's server, which has set its handlers before it starts the app.

        Without such a server, as in tests, nothing changes.
        """
        server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
        if not isinstance(server, uvicorn.Server):
            return
        loop = asyncio.get_running_loop()

        def handle(number: int, frame: FrameType | None) -> None:
            if self.begun:
                # Someone is impatient.
                server.handle_exit(number, frame)
            else:
                self.begun = True
                loop.call_soon_threadsafe(self._begin, server, number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, handle)

    async def close(self) -> None:
        """Forget the rest of the stop: uvicorn has no open connections any more."""
        if self._stopping is not None:
            self._stopping.cancel()
            await asyncio.wait([self._stopping])

    def _begin(self, server: uvicorn.Server, number: int) -> None:
        self._stopping = asyncio.create_task(self._stop(server, number))

    async def _stop(self, server: uvicorn.Server, number: int) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + DRAIN_SECONDS
        requests = server.server_state.tasks
        logger.info("stopping: %d requests have %g s for their answers", len(requests), DRAIN_SECONDS)
        self._monitor.stopping = True
        for connection in self._connections_of(server):
            connection.finish()
        self._release_waiting()
        begun = set(requests)
        while begun & requests and clock() < until:  # noqa: ASYNC110 - uvicorn signals no end of a task
            await asyncio.sleep(CHECK_SECONDS)
        server.handle_exit(number, None)
        # Requests that have come meanwhile have the same time.
        await asyncio.sleep(until - clock())
        for connection in self._connections_of(server):
            connection.refuse_unfinished()
        for request in list(requests):
            # `RequestMiddleware` and the hot endpoints answer with 503.
            request.cancel()
        await asyncio.sleep(END_SECONDS)
        for connection in self._connections_of(server):
            connection.transport.abort()

    @staticmethod
    def _connections_of(server: uvicorn.Server) -> list[HttpProtocol]:
        return [each for each in server.server_state.connections if isinstance(each, HttpProtocol)]


class GatewayProcesses(Multiprocess):
    """uvicorn's supervisor of several processes."""

    def terminate_all(self) -> None:
        """Stop all processes, and stop listening, which they do as long as they have requests in progress.

        The socket is shared. Held open here, it would let callers connect whom no process accepts any more.
        """
        super().terminate_all()
        for each in self.sockets:
            each.close()
