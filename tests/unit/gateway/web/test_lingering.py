"""The end of a connection, on real sockets."""

import asyncio
import select
import socket
from collections.abc import Callable
from contextlib import closing

import pytest
import uvloop

from gateway.web.lingering import LingeringTransport
from tests.support.processes import wait_for

ANSWER = b"." * 20_000_000
"""More than the buffers of two sockets hold."""


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_an_aborted_answer_is_discarded_by_the_system_too(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Check that the caller's socket is reset at once: without that, 4 MB stay in the system's buffer for minutes."""

    async def scenario(server: socket.socket) -> None:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=server)
        lingering = LingeringTransport(transport, lambda: False)
        lingering.write(ANSWER)
        lingering.abort()

    with (
        closing(socket.create_server(("127.0.0.1", 0))) as listening,
        closing(socket.create_connection(listening.getsockname())) as caller,
        asyncio.Runner(loop_factory=loop) as runner,
    ):
        runner.run(scenario(listening.accept()[0]))
        wait_for("the connection is reset", lambda: has_error(caller))


def has_error(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))
