"""Client of the queue: publishes messages to the workers, and reads the replies to this process."""

import asyncio
import itertools
import logging
import uuid
from collections.abc import Callable
from typing import Any

from celery import Celery
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.broker.celery_message import NOT_TRACED, Traces, lane_of, queue_entry
from gateway.broker.raw_connection import RawConnection
from shared.queue import keys
from shared.queue.broker_clock import BrokerClock
from shared.queue.contract import BatchReply, Message, queue_name

logger = logging.getLogger(__name__)

READ_BLOCK_MILLISECONDS = 1000
READ_COUNT = 64

TRIM_EVERY = 256
"""Number of replies that are read between two trims of the stream."""

OnReply = Callable[[BatchReply], None]


class BatchClient:
    """Publisher of one gateway process, and reader of its reply stream.

    Replies are in a stream instead of a list, because reading does not remove them: a connection that breaks in the
    middle of a read loses none. Replies that were read are trimmed now and then.
    """

    def __init__(
        self,
        redis: Redis,
        publisher: Redis | RawConnection,
        reader: Redis | RawConnection,
        app: Celery,
        clock: BrokerClock,
    ) -> None:
        """Take a connection for rare commands, one for messages, and one for blocking reads only."""
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

    def expect_reply(self, on_reply: OnReply) -> int:
        """Return a new batch id; `on_reply` is called with the reply to that batch, at most once."""
        batch = next(self._ids)
        self._waiting[batch] = on_reply
        return batch

    def ignore_reply(self, batch: int) -> None:
        """Stop expecting the reply to a batch."""
        self._waiting.pop(batch, None)

    def queue_entry(self, message: Message, worker_group: str, traces: Traces = NOT_TRACED) -> bytes:
        """Return the queue entry of a message to a worker group, published now."""
        return queue_entry(self._app, message, worker_group, self._clock.now(), traces)

    async def publish(self, message: Message, worker_group: str, traces: Traces = NOT_TRACED) -> None:
        """Put a message into its lane of a worker group.

        Raises:
            RedisError: if the broker did not confirm the entry; it may be in the queue all the same.
        """
        entry = self.queue_entry(message, worker_group, traces)
        await self._publisher.lpush(queue_name(lane_of(message), worker_group), entry)

    async def read_step(self) -> None:
        """Wait for replies and deliver them: a step of a background loop."""
        try:
            answer: Any = await self._reader.xread(
                {self.reply_to: self._last_read}, count=READ_COUNT, block=READ_BLOCK_MILLISECONDS
            )
        except ResponseError as error:
            if str(error).startswith("WRONGTYPE"):
                # Another program has put something in the place of the stream.
                await self._redis.delete(self.reply_to)
            raise
        if not answer:
            if self._waiting:
                await self._follow_stream()
            return
        ((_, entries),) = answer
        for entry_id, fields in entries:
            self._deliver(fields.get(b"reply", b""))
            self._last_read = entry_id
        # Let the callers write their responses before the next read.
        await asyncio.sleep(0)
        self._read_since_trim += len(entries)
        if self._read_since_trim >= TRIM_EVERY:
            self._read_since_trim = 0
            await self._redis.xtrim(self.reply_to, minid=self._last_read, approximate=True)

    async def _follow_stream(self) -> None:
        """Read the stream from its beginning if it is another one than the one that was read so far.

        The ids of its entries are times of Redis' clock. A stream that was lost and made anew, after that clock was set
        back or by another Redis, has smaller ids than the last one that was read: its replies would never be seen.
        Replies that are read twice are ignored.
        """
        newest: Any = await self._redis.xrevrange(self.reply_to, count=1)
        if not newest or _order(newest[0][0]) < _order(self._last_read):
            self._last_read = b"0"

    def _deliver(self, payload: bytes) -> None:
        try:
            reply = BatchReply.from_json(payload)
        except ValueError as error:
            # The error's text is left out: it may quote rows.
            logger.error("dropped a reply that can't be read: %s", type(error).__name__)
            return
        on_reply = self._waiting.pop(reply.batch, None)
        if on_reply is not None:
            on_reply(reply)

    async def delete_replies(self) -> None:
        """Delete the reply stream, at the end of the process."""
        await self._redis.delete(self.reply_to)


def _order(entry_id: bytes) -> tuple[int, int]:
    """Return an id of a stream's entry, `<milliseconds>-<number>`, as numbers."""
    milliseconds, _, number = entry_id.partition(b"-")
    return int(milliseconds), int(number or 0)
