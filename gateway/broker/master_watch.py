"""The loop that notices another master while the old one still answers."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from redis.asyncio import Redis

from gateway.broker.raw_connection import RawConnection
from gateway.broker.redis_client import Locator
from shared.broker_url import for_server
from shared.master import CHECK_SECONDS, Address

logger = logging.getLogger(__name__)


class MasterWatch:
    """Watch over the address that Sentinels give for the master; it closes all connections to an old one.

    Sentinels make a replica of an old master that lives only after some ten seconds; until then it takes writes.
    """

    def __init__(self, redis_url: str, clients: Sequence[Redis | RawConnection], count: Callable[[], None]) -> None:
        """Take the clients whose connections are closed, and what counts these events."""
        _, sentinels = for_server(redis_url)
        self._locate = Locator(sentinels) if sentinels else None
        self._clients = clients
        self._count = count
        self._address: Address | None = None

    async def step(self) -> None:
        """Look once a second: a step of a background loop. Without Sentinels there is nothing to do.

        Raises:
            MasterUnknown: if no Sentinel knows a live master.
        """
        await asyncio.sleep(CHECK_SECONDS)
        if self._locate is None:
            return
        address = await self._locate()
        before, self._address = self._address, address
        if before in (None, address):
            return
        logger.warning("the master is at %s:%d now", *address)
        self._count()
        for client in self._clients:
            if isinstance(client, RawConnection):
                await client.aclose()
            else:
                await client.connection_pool.disconnect()
