"""The messages that a worker holds, recorded in Redis in kombu's form, but without waiting for the answers.

kombu makes a round trip before it hands a message on and another when it acknowledges it. Here both are written on one
connection, and the answers are read before the next write: they have long arrived by then.

The times are the broker's. kombu takes each machine's own, by which a worker whose clock is ahead would take the
messages of the others for abandoned and have them run twice.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

import orjson
import redis
from celery.worker import state
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual

from shared.queue.broker_clock import BrokerClock
from shared.queue.dead_letters import DeadLetter, bury
from shared.queue.entry import problem
from worker.consumer.shutdown import is_stopping

logger = logging.getLogger(__name__)

Command = tuple[Any, ...]

CLOCK_SLACK_SECONDS = 5.0
"""Time by which a record may be ahead of the broker's clock, before that counts as set back."""


class QoS(kombu_redis.QoS):  # type: ignore[misc]
    """The unacknowledged messages of a channel, under kombu's keys and in kombu's form: any worker can restore them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connection: Any = None
        self._unconfirmed: list[Command] = []
        self._clock = BrokerClock()
        self._calibrated = False

    def append(self, message: Any, delivery_tag: str) -> None:
        """Record a message that is about to be handed on.

        Raises:
            redis.ConnectionError: if the broker is gone.
        """
        delivery = message.delivery_info
        entry = orjson.dumps([message._raw, delivery["exchange"], delivery["routing_key"]])
        self._write(
            ("ZADD", self.unacked_index_key, self._now(), delivery_tag), ("HSET", self.unacked_key, delivery_tag, entry)
        )
        virtual.QoS.append(self, message, delivery_tag)

    def ack(self, delivery_tag: str) -> None:
        """Remove the record of a message that is done.

        Raises:
            redis.ConnectionError: if the broker is gone.
        """
        self._write(("HDEL", self.unacked_key, delivery_tag), ("ZREM", self.unacked_index_key, delivery_tag))
        virtual.QoS.ack(self, delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Drop a message or give it back. kombu uses another connection, so the writes of this one come first."""
        self._settle()
        super().reject(delivery_tag, requeue)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> None:
        """Give a message back. kombu uses another connection, so the writes of this one come first."""
        self._settle()
        super().restore_by_tag(tag, client, leftmost)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Give back the messages that are held when a connection is closed; of a lost one, only those not running yet.

        Running batches go on without the connection. Given back, they would run twice, and a job's third attempt is its
        last.
        """
        if not is_stopping():
            running = {request.message.delivery_tag for request in list(state.active_requests)}
            for tag in running & self._delivered.keys():
                del self._delivered[tag]
        super().restore_unacked_once(stderr)

    def restore_visible(self, start: int = 0, num: int | None = 10, interval: int = 10) -> None:
        """Give back the messages that any worker has held for longer than the visibility timeout.

        Adapted from kombu 5.7, with these differences: the time is the broker's, every call sweeps (kombu's `interval`,
        a throttle, is ignored), the oldest message goes back first, a record that is no message of ours is put aside,
        and one from before the broker's clock was set back counts from now on.
        """
        with self.channel.conn_or_acquire() as client:
            self._calibrate(client)
            now = self._clock.now()
            if self._replace_foreign_keys(client):
                return
            mutex = kombu_redis.Mutex(client, self.unacked_mutex_key, self.unacked_mutex_expire)
            with suppress(kombu_redis.MutexHeld), mutex:
                # Redis takes an offset only together with a number.
                limit = {"offset": start, "num": num} if num else {}
                index = self.unacked_index_key
                for tag in client.zrange(index, 0, now - self.visibility_timeout, byscore=True, **limit):
                    self._restore(tag, client)
                for tag in client.zrange(index, now + CLOCK_SLACK_SECONDS, "+inf", byscore=True, **limit):
                    client.zadd(index, {tag: now}, xx=True)

    def _replace_foreign_keys(self, client: Any) -> bool:
        """Replace what another program has put in the place of the records or of their index; return True if so."""
        is_foreign = False
        for name, read in ((self.unacked_key, client.hget), (self.unacked_index_key, client.zscore)):
            try:
                read(name, "")
            except redis.ResponseError:
                logger.error("%s is of a wrong type, and was replaced", name)
                # This user of Redis may not delete it: an empty value that expires at once takes its place.
                client.set(name, "", px=1)
                is_foreign = True
        return is_foreign

    def _restore(self, tag: Any, client: Any) -> None:
        """Give a message back; a record that is none of ours becomes a dead letter, and does not stop the others."""
        record = client.hget(self.unacked_key, tag)
        if record is None or _is_message(record):
            self.restore_by_tag(tag, client)
            return
        logger.error("dead letter: the record of an unacknowledged message is damaged")
        reason = "damaged record of an unacknowledged message"
        bury(client, DeadLetter.of(record, "", reason, self._clock.now()))
        client.hdel(self.unacked_key, tag)
        client.zrem(self.unacked_index_key, tag)

    def _now(self) -> float:
        """Return the broker's time, estimated from the reading of the last sweep: they come every few seconds."""
        if not self._calibrated:
            with suppress(redis.RedisError), self.channel.conn_or_acquire() as client:
                self._calibrate(client)
        return self._clock.now()

    def _calibrate(self, client: Any) -> None:
        asked = monotonic()
        self._clock.calibrate(client.time(), asked, monotonic())
        self._calibrated = True

    def _write(self, *commands: Command) -> None:
        self._settle()
        self._unconfirmed += commands
        try:
            self._send(commands)
        except redis.ConnectionError:
            self._settle()

    def _settle(self) -> None:
        """Read the answers to earlier writes, and write again those that a broken connection left unconfirmed.

        Raises:
            redis.ConnectionError: if the broker is gone; unconfirmed writes are kept for the next call.
        """
        try:
            self._confirm()
        except redis.ConnectionError:
            logger.info("writing %d records of unacknowledged messages again", len(self._unconfirmed))
            # Redis may have executed some of them already; repeating any of them does no harm.
            self._send(self._unconfirmed)
            self._confirm()

    def _send(self, commands: Sequence[Command]) -> None:
        if self._connection is None:
            self._connection = self.channel.pool.get_connection()
        with _broken_by_timeout():
            self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)

    def _confirm(self) -> None:
        with _broken_by_timeout():
            while self._unconfirmed:
                try:
                    self._connection.read_response()
                except redis.ResponseError as error:
                    logger.error("the broker refused the record of an unacknowledged message: %s", error)
                del self._unconfirmed[0]


def _is_message(record: bytes) -> bool:
    """Return True if the record of an unacknowledged message holds an entry that may go back to its queue."""
    try:
        entry, exchange, queue = orjson.loads(record)
        delivery = entry["properties"]["delivery_info"]
    except (KeyError, TypeError, ValueError):
        return False
    return (exchange, queue) == (delivery["exchange"], delivery["routing_key"]) and problem(orjson.dumps(entry)) is None


@contextmanager
def _broken_by_timeout() -> Iterator[None]:
    """Raise a timeout as a lost connection: redis-py drops it, for a late answer would be taken for the next one's."""
    try:
        yield
    except redis.TimeoutError as error:
        raise redis.ConnectionError(*error.args) from error
