import asyncio
import socket

import uvicorn
import uvloop

from gateway.__main__ import ACCEPTED_TOGETHER, listen

CALLERS = 10 * ACCEPTED_TOGETHER


def test_callers_who_connect_at_once_are_accepted_several_in_a_turn() -> None:
    accepted: list[asyncio.BaseTransport] = []
    turns = 0

    class Accepting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.append(transport)

    async def scenario() -> None:
        nonlocal turns
        create = asyncio.get_running_loop().create_server
        sockets = listen(uvicorn.Config("none", port=0, log_config=None), ACCEPTED_TOGETHER)
        servers = [await create(Accepting, sock=each, backlog=CALLERS) for each in sockets]
        callers = [socket.create_connection(sockets[0].getsockname()) for _ in range(CALLERS)]
        while len(accepted) < CALLERS and turns < 100 * CALLERS:
            turns += 1
            await asyncio.sleep(0)
        for transport in accepted:
            transport.close()
        for caller in callers:
            caller.close()
        for server in servers:
            server.close()
            await server.wait_closed()

    loop = uvloop.new_event_loop()
    loop.run_until_complete(scenario())
    loop.close()
    assert len(accepted) == CALLERS
    assert turns <= CALLERS / 2
