"""A server that only answers: the limit of the load generators without a system behind them.

`python -m bench.trivial PORT`. It runs on the same cores, so the generator alone can do more.
"""

import asyncio
import sys
from typing import cast

import uvloop

BODY = b'{"prediction":"setosa"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


class _Connection(asyncio.Protocol):
    """A protocol that answers every piece of data.

    The generators send a request in one piece, and never two at once.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports don't derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER)


async def serve(port: int) -> None:
    """Serve until a signal ends it."""
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
