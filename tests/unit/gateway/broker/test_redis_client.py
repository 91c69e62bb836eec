import asyncio

import pytest
import redis
from redis.asyncio import Connection, SSLConnection

from gateway.broker import redis_client as module
from gateway.broker.redis_client import bounded, connect
from tests.support.coroutines import run


@pytest.mark.parametrize(("url", "kind"), [("redis://h:1/0", Connection), ("rediss://h:1/0", SSLConnection)])
def test_a_closed_connection_is_a_lost_one_with_uvloop_too(
    url: str, kind: type[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def closed(*_: object, **__: object) -> None:
        raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")

    async def scenario() -> None:
        client = connect(url, 1.0)
        made = client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        assert isinstance(made, kind)
        assert isinstance(made, SSLConnection) == url.startswith("rediss")
        monkeypatch.setattr(Connection, "send_packed_command", closed)
        monkeypatch.setattr(SSLConnection, "send_packed_command", closed)
        with pytest.raises(redis.ConnectionError, match="the handler is closed"):
            await made.send_packed_command(b"PING")
        await client.aclose()

    run(scenario())


def test_a_command_has_its_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMMAND_SECONDS", 0.02)

    async def scenario() -> None:
        assert await bounded(asyncio.sleep(0, "answer")) == "answer"
        with pytest.raises(asyncio.TimeoutError):
            await bounded(asyncio.sleep(5))

    run(scenario())
