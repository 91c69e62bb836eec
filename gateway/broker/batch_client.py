"""Batches out, replies in: publishes on the asyncio client and reads this process's reply stream."""

import asyncio
import itertools
import logging
import uuid
from collections.abc import Callable
from typing import Any

from celery import Celery
from redis.asyncio import Redis

from gateway.broker.celery_message import NOT_TRACED, Traces, envelope, lane_of
from gateway.broker.raw_connection import RawConnection
from shared.queue import keys
from shared.queue.broker_clock import BrokerClock
from shared.queue.contract import BatchReply, Message, queue_name

logger = logging.getLogger(__name__)

READ_BLOCK_MILLISECONDS = 1000
READ_COUNT = 64
TRIM_EVERY = 256

OnReply = Callable[[BatchReply], None]


class BatchClient:
    """The queue as one gateway process sees it.

    Replies come through a stream, not a list: reading takes nothing away, so a connection that breaks in the middle
    of a read loses nothing. What was read is trimmed now and then.
    """

    def __init__(
        self,
        redis: Redis,
        publisher: Redis | RawConnection,
        reader: Redis | RawConnection,
        app: Celery,
        clock: BrokerClock,
    ) -> None:
        """`redis` is for what is seldom done; `reader` waits for replies, so it is nobody else's."""
        self._redis = redis
        self._publisher = publisher
        self._reader = reader
        self._app = app
        self._clock = clock
        self._ids = itertools.count(1)
        self._waiting: dict[int, OnReply] = {}
        self.reply_to = keys.replies(uuid.uuid4().hex)
        self._last_read = b"0"
        self._read_since_trim = 0

    def open(self, on_reply: OnReply) -> int:
        """A new batch id, and who wants its reply."""
        batch = next(self._ids)
        self._waiting[batch] = on_reply
        return batch

    def close(self, batch: int) -> None:
        """Nobody waits for this reply any more."""
        self._waiting.pop(batch, None)

    def entry(self, message: Message, pool: str, traces: Traces = NOT_TRACED) -> bytes:
        """The queue entry of a message to the workers of a pool."""
        return envelope(self._app, message, pool, self._clock.now(), traces)

    async def publish(self, message: Message, pool: str, traces: Traces = NOT_TRACED) -> None:
        """Put a message into its lane, for the workers of a pool.

        Raises:
            RedisError: if the broker did not confirm it; it may be there all the same.
        """
        await self._publisher.lpush(queue_name(lane_of(message), pool), self.entry(message, pool, traces))

    async def read_step(self) -> None:
        """Wait for replies and hand them on: a background loop's step."""
        answer: Any = await self._reader.xread(
            {self.reply_to: self._last_read}, count=READ_COUNT, block=READ_BLOCK_MILLISECONDS
        )
        if not answer:
            return
        ((_, entries),) = answer
        for entry_id, fields in entries:
            self._dispatch(fields.get(b"reply", b""))
            self._last_read = entry_id
        # Who was waiting writes its answer before this asks for the next.
        await asyncio.sleep(0)
        self._read_since_trim += len(entries)
        if self._read_since_trim >= TRIM_EVERY:
            self._read_since_trim = 0
            await self._redis.xtrim(self.reply_to, minid=self._last_read, approximate=True)

    def _dispatch(self, payload: bytes) -> None:
        try:
            reply = BatchReply.from_json(payload)
        except ValueError as error:
            # Without what is wrong in it: that may be rows.
            logger.error("dropped a reply that can't be read: %s", type(error).__name__)
            return
        on_reply = self._waiting.pop(reply.batch, None)
        if on_reply is not None:
            on_reply(reply)

    async def forget(self) -> None:
        """Delete the reply stream; the process ends."""
        await self._redis.delete(self.reply_to)
