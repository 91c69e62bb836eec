"""The broker transport of the worker: kombu's, with a check of each queue entry before Celery sees it.

An entry that is no task of ours would end the worker (kombu#2421) or vanish; here it goes to the dead letters. And a
worker that loses the broker while it holds entries goes on.
"""

import logging
from typing import Any

import kombu
import orjson
import redis
from celery.app.amqp import AMQP
from kombu.transport import redis as kombu_redis

from shared.broker_url import Sentinels
from shared.master import MasterConnection, MasterTlsConnection, locator
from shared.queue.dead_letters import DeadLetter, bury
from shared.queue.entry import problem
from worker.consumer.acks import QoS
from worker.consumer.blocking_poll import BlockingPoll
from worker.consumer.lanes import LaneCycle
from worker.consumer.shutdown import is_stopping
from worker.consumer.watchdog import Pulse

logger = logging.getLogger(__name__)

RETRY_INTERVALS = {"interval_start": 0.2, "interval_step": 0.2, "interval_max": 1.0}
"""Seconds between two tries to reach the broker: the first, what is added each time, and the longest."""


class Connection(kombu.Connection):  # type: ignore[misc]
    """A connection that is back within a second of the broker; kombu waits 2 s longer each time, up to 30 s."""

    def _establish_connection(self) -> Any:
        self.transport_options.get("pulse", Channel.pulse).connecting()
        return super()._establish_connection()

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        """Connect, however long it takes."""
        return super().ensure_connection(*args, **{**RETRY_INTERVALS, **options})


class Amqp(AMQP):  # type: ignore[misc]
    """Celery's access to the queue, with these connections."""

    Connection = BrokerConnection = Connection


class Channel(kombu_redis.Channel):  # type: ignore[misc]
    """A channel that dead-letters entries that are no tasks, and asks for bulk entries within their share of the slots.

    It can also be closed without a broker. Its connections are to the master.
    """

    QoS = QoS
    connection_class = MasterConnection
    connection_class_ssl = MasterTlsConnection
    #: The Sentinels to ask for the master, if there are any; set by a transport option.
    sentinels: Sentinels | None = None
    #: Slots that bulk may have while there is interactive work; set by a transport option.
    bulk_slots = 1
    #: Counts the polls; set by a transport option.
    pulse = Pulse(0)
    _in_poll: Any
    from_transport_options = (*kombu_redis.Channel.from_transport_options, "bulk_slots", "pulse", "sentinels")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._queue_cycle: LaneCycle = LaneCycle(self.bulk_slots)
        self._blocking_poll = BlockingPoll(self)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """Bind nothing: an entry goes back to the list of its routing key, whatever others have written elsewhere."""

    def _brpop_start(self, timeout: float | None = None) -> None:
        self._blocking_poll.identify(self.client.connection)
        super()._brpop_start(timeout)

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:
        """Acknowledge a message."""
        super().basic_ack(delivery_tag, multiple)
        self._release(delivery_tag)

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Drop a message, or give it back."""
        super().basic_reject(delivery_tag, requeue)
        self._release(delivery_tag)

    def _release(self, delivery_tag: str) -> None:
        if self._queue_cycle.release(delivery_tag):
            # The BRPOP in flight may have been sent without the bulk queues, so it is ended and sent again. If that
            # fails, it ends by itself within a second.
            self._blocking_poll.unblock()

    def _basic_cancel(self, consumer_tag: str) -> None:
        super()._basic_cancel(consumer_tag)
        # kombu reads the answer to a BRPOP in flight when it closes the channel: seconds later, when the children have
        # ended, while the caller of an entry popped meanwhile waits. Read now, an entry without a consumer goes back.
        if not self.active_queues and is_stopping():
            self._blocking_poll.take_back()

    def _brpop_read(self, **options: Any) -> bool:
        # A copy of kombu 5.7's, with the pulse, and with the check of an entry between popping and decoding it.
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
                self._queue_cycle.take(queue, message["properties"]["delivery_tag"])
                self.connection._deliver(message, queue)
            else:
                self._bury(queue, entry, reason)
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()

    def _connparams(self, asynchronous: bool = False) -> Any:
        # kombu 5.7 gives its unacknowledged messages back when it closes a channel, even if it closes it because the
        # connection was lost. It then fails with an AttributeError, which ends the worker; this error it handles.
        if self.connection.client is None:
            raise redis.ConnectionError("the connection is closed")
        parameters = super()._connparams(asynchronous)
        if self.sentinels is not None:
            parameters["locate"] = locator(self.sentinels)
        return parameters

    def _bury(self, queue: str, entry: bytes, reason: str) -> None:
        logger.error("dead letter: %s: an entry of %d bytes in %s", reason, len(entry), queue)
        with self.conn_or_acquire() as client:
            seconds, _ = client.time()
            bury(client, DeadLetter.of(entry, queue, reason, seconds))


class Transport(kombu_redis.Transport):  # type: ignore[misc]
    """kombu's Redis transport with the channel above."""

    Channel = Channel
