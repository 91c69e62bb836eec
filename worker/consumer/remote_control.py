"""Remote control of a worker: the answers to the two questions of celery-exporter. Celery's own is off.

With Celery's, whoever may publish on its channel could end a worker, mute it, or read what it runs; and a message that
Celery does not expect ends the worker too.
"""

import base64
import logging
import time
import uuid
from typing import Any, Literal

import orjson
import redis
from celery import bootsteps
from pydantic import BaseModel, ConfigDict, Field

from shared.observability.log_limit import LogLimit
from worker.redis_client import connect

logger = logging.getLogger(__name__)

EXCHANGE = "celery.pidbox"
REPLY_EXCHANGE = f"reply.{EXCHANGE}"
UUID_PATTERN = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"

POLL_SECONDS = 0.2
"""Time between two looks for questions; celery-exporter waits for an answer for a second."""

QUESTIONS_PER_POLL = 20
"""Messages that are read in one look; more are a flood, and dropped."""

READ_SECONDS = 0.05
"""Longest time to read a message that has begun to arrive."""

QUESTION_MAX_BYTES = 10_000
"""Longest message that can be a question."""

PAUSE_SECONDS = 5.0
"""Time without a subscription after a flood, after a message that is too long, and after an error of Redis."""

REPLY_TTL_SECONDS = 10
"""Time that an answer waits for whoever asked."""

MISSED_PONGS_MAX = 10
"""Unanswered pings after which a subscription counts as lost; once one is due, each look sends another."""


class ReplyTo(BaseModel):
    """The queue of whoever asked; no other key can be named, because the exchange's name is the end of the key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    exchange: Literal["reply.celery.pidbox"]
    routing_key: str = Field(pattern=UUID_PATTERN)


class Question(BaseModel):
    """A message of remote control that a worker answers, as Celery's `inspect()` sends it to all workers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["stats", "active_queues"]
    arguments: dict[str, Any] = Field(max_length=0)
    destination: None = None
    pattern: None = None
    matcher: None = None
    ticket: str = Field(pattern=UUID_PATTERN)
    reply_to: ReplyTo


def read_question(message: bytes) -> Question | None:
    """Return the question in a message of the channel, None if there is none."""
    if len(message) > QUESTION_MAX_BYTES:
        return None
    try:
        envelope = orjson.loads(message)
        body = envelope["body"]
        if envelope["properties"].get("body_encoding") == "base64":
            body = base64.b64decode(body, validate=True)
        return Question.model_validate_json(body)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


class RemoteControl(bootsteps.StartStopStep):  # type: ignore[misc]
    """Step of Celery's consumer that answers questions, on a connection of its own and in bounded time.

    Whatever happens to this connection or arrives on it leaves the consumer alone.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **_: Any) -> None:
        self._consumer = consumer
        self._redis = connect(consumer.app.headrace_settings.redis_url, retries=0)
        self._channel = f"/{self._redis.connection_pool.connection_kwargs.get('db') or 0}.{EXCHANGE}"
        self._subscription: Any = None
        self._paused_until = float("-inf")
        self._drops, self._pauses = LogLimit(1, 10.0), LogLimit(1, 10.0)
        self._timer: Any = None
        super().__init__(consumer)

    def start(self, consumer: Any) -> None:
        """Subscribe at the first look, and look again and again."""
        self._timer = consumer.timer.call_repeatedly(POLL_SECONDS, self._poll)

    def stop(self, consumer: Any) -> None:
        """Stop looking, and end the subscription."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._unsubscribe()

    def _poll(self) -> None:
        if time.monotonic() < self._paused_until:
            return
        try:
            reason = self._answer_all()
        except redis.RedisError as error:
            reason = type(error).__name__
        if reason is not None:
            self._pause(reason)

    def _answer_all(self) -> str | None:
        """Answer the questions that have arrived; return a reason to pause, or None."""
        if self._subscription is None:
            self._subscription = self._redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
            self._subscription.subscribe(self._channel)
        subscription = self._subscription
        subscription.check_health()
        if subscription.health_check_response_counter > MISSED_PONGS_MAX:
            return "pings are not answered"
        for _ in range(QUESTIONS_PER_POLL):
            if not subscription.connection.can_read(timeout=0):
                return None
            message = subscription.get_message(timeout=READ_SECONDS)
            if message is None:
                # The message was about the subscription itself.
                continue
            question = read_question(message["data"])
            if question is not None:
                self._answer(question)
                continue
            self._drop(len(message["data"]))
            if len(message["data"]) > QUESTION_MAX_BYTES:
                return "a message is too long"
        return "too many messages"

    def _answer(self, question: Question) -> None:
        answer = self._processes() if question.method == "stats" else self._queues()
        # Written as kombu would, but without its look-up of the queue in a key that whoever asks may write.
        reply = {
            "body": orjson.dumps({self._consumer.hostname: answer}).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"ticket": question.ticket},
            "properties": {
                "delivery_info": question.reply_to.model_dump(),
                "delivery_mode": 1,
                "delivery_tag": str(uuid.uuid4()),
                "priority": 0,
            },
        }
        key = f"{question.reply_to.routing_key}.{REPLY_EXCHANGE}"
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.lpush(key, orjson.dumps(reply))
            pipe.expire(key, REPLY_TTL_SECONDS)
            pipe.execute()

    def _processes(self) -> dict[str, Any]:
        return {"pool": {"processes": [process.pid for process in self._consumer.pool._pool._pool]}}

    def _queues(self) -> list[dict[str, str]]:
        return [{"name": queue.name} for queue in self._consumer.app.conf.task_queues]

    def _drop(self, size_bytes: int) -> None:
        end = self._drops.admit()
        if end is not None:
            logger.warning(
                "remote control: dropped a message of %d bytes: it is none of the questions that a worker answers%s",
                size_bytes,
                end,
            )

    def _pause(self, reason: str) -> None:
        self._unsubscribe()
        self._paused_until = time.monotonic() + PAUSE_SECONDS
        end = self._pauses.admit()
        if end is not None:
            logger.warning("remote control: nothing is answered for %g s: %s%s", PAUSE_SECONDS, reason, end)

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._subscription.close()
            self._subscription = None
