"""The broker transport of the worker: kombu's, with a look at each queue entry before Celery sees it.

An entry that is no task would end the worker (kombu#2421) or vanish; here it goes to the dead letters. And losing
the broker with tasks in hand does not end the worker either.
"""

import logging
from contextlib import suppress
from functools import cached_property, partial
from typing import Any

import kombu
import orjson
import redis
from celery.app.amqp import AMQP
from kombu.transport import redis as kombu_redis

from shared.queue import keys
from shared.queue.dead_letters import KEPT, DeadLetter
from shared.queue.entry import problem
from worker.consumer.acks import QoS
from worker.consumer.lanes import LaneCycle
from worker.consumer.watchdog import Pulse, is_stopping

logger = logging.getLogger(__name__)

TRY_AGAIN = {"interval_start": 0.2, "interval_step": 0.2, "interval_max": 1.0}
"""Seconds between two tries to reach the broker: the first, what is added each time, and the longest."""

CONTROL_READ_SECONDS = 0.5
"""How long a message of remote control may take to be read."""


class Connection(kombu.Connection):  # type: ignore[misc]
    """A connection that comes back soon; kombu's own waits 2 s longer each time, up to 30 s."""

    def _establish_connection(self) -> Any:
        self.transport_options.get("pulse", Channel.pulse).connecting()
        return super()._establish_connection()

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        """Connect, however long it takes."""
        return super().ensure_connection(*args, **{**TRY_AGAIN, **options})


class Amqp(AMQP):  # type: ignore[misc]
    """Celery's access to the queue, with such connections."""

    Connection = BrokerConnection = Connection


class Channel(kombu_redis.Channel):  # type: ignore[misc]
    """A channel whose BRPOP dead-letters what is no task and asks for bulk within its share of the slots.

    And that can be closed without a broker.
    """

    QoS = QoS
    #: Slots that bulk may have while there is interactive work; set by a transport option.
    bulk_slots = 1
    #: Told of every poll; set by a transport option.
    pulse = Pulse(0)
    _in_poll: Any
    from_transport_options = (*kombu_redis.Channel.from_transport_options, "bulk_slots", "pulse")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._queue_cycle: LaneCycle = LaneCycle(self.bulk_slots)
        self._asking: tuple[Any, int] = (None, 0)

    @cached_property
    def subclient(self) -> Any:
        """What remote control comes through. kombu's waits for ever for what was announced and does not come.

        With it waits all of the worker. An answer of None is nothing, and a late one a lost connection.
        """
        pubsub = self._create_client(asynchronous=True).pubsub()
        pubsub.parse_response = partial(pubsub.parse_response, block=False, timeout=CONTROL_READ_SECONDS)
        return pubsub

    def _brpop_start(self, timeout: float | None = None) -> None:
        connection = self.client.connection
        if connection._sock is None or self._asking[0] is not connection._sock:
            connection.send_command("CLIENT", "ID")
            self._asking = (connection._sock, connection.read_response())
        super()._brpop_start(timeout)

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Acknowledge a message."""
        super().basic_ack(delivery_tag, multiple)
        self._gave(delivery_tag)

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Drop a message, or give it back."""
        super().basic_reject(delivery_tag, requeue)
        self._gave(delivery_tag)

    def _gave(self, delivery_tag: str) -> None:
        if self._queue_cycle.gave(delivery_tag) and self._in_poll:
            # The BRPOP that waits may have been sent without the bulk queues: it is sent anew. If not, it ends soon.
            self._unblock()

    def _basic_cancel(self, consumer_tag: str) -> None:
        super()._basic_cancel(consumer_tag)
        # kombu reads what a BRPOP that waits may still pop when it closes the channel: seconds later, when the children
        # have ended, and meanwhile somebody waits for the answer. A read gives back what has no consumer any more.
        if self._in_poll and not self.active_queues and is_stopping():
            self._unblock()
            with suppress(kombu_redis.Empty):
                self._brpop_read()

    def _unblock(self) -> None:
        """End the BRPOP that waits."""
        with suppress(redis.RedisError), self.conn_or_acquire() as client:
            client.client_unblock(self._asking[1])

    def _brpop_read(self, **options: Any) -> bool:
        # As in kombu 5.7, but for the check between popping and decoding.
        try:
            try:
                popped = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:
                self.client.connection.disconnect()
                raise
            self.pulse.polled(len(self._queue_cycle.items))
            if not popped:
                raise kombu_redis.Empty
            name, entry = popped
            queue = name.decode().rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)
            reason = problem(entry)
            if reason is None:
                message = orjson.loads(entry)
                self._queue_cycle.took(queue, message["properties"]["delivery_tag"])
                self.connection._deliver(message, queue)
            else:
                self._bury(queue, entry, reason)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _connparams(self, asynchronous: bool = False) -> Any:
        # kombu 5.7 gives back its unacknowledged messages when it closes a channel, also when that is because the
        # connection was lost; it then fails with an AttributeError, which ends the worker. This error it expects.
        if self.connection.client is None:
            raise redis.ConnectionError("the connection is closed")
        return super()._connparams(asynchronous)

    def _bury(self, queue: str, entry: bytes, reason: str) -> None:
        logger.error("dead letter: %s: an entry of %d bytes in %s", reason, len(entry), queue)
        with self.conn_or_acquire() as client:
            seconds, _ = client.time()
            client.lpush(keys.DEAD_LETTERS, DeadLetter.of(entry, queue, reason, seconds).model_dump_json())
            client.ltrim(keys.DEAD_LETTERS, 0, KEPT - 1)


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    """kombu's Redis transport with the channel above."""

    Channel = Channel
