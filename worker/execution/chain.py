"""The chain of interactive batches that a child answers within one Celery task.

Celery delivers the first. The child takes the others from the queue itself: under load few batches pass the worker's
main process. A chain is short, so that Celery goes on to supervise, count and time its tasks.
"""

import logging
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import redis

from shared.queue import keys
from shared.queue.contract import PREDICT_TASK, PredictMessage
from shared.queue.entry import read
from shared.queue.replies import REPLIES_KEPT, REPLY_TTL_SECONDS

logger = logging.getLogger(__name__)

CHAIN_SECONDS = 1.0
"""Longest time within which a chain takes batches: a task of Celery's lasts as long as this and one batch."""

CHAIN_LIMIT_RATIO = 0.05
"""Longest such time as a part of the soft time limit, which counts from the beginning of the chain."""

LINGER_SECONDS = 0.05
"""Time for which a child waits for the next batch; an entry of another queue waits for it, or for that batch."""

HELD_SECONDS = 600
"""Time after which an entry goes that is held by a child of a dead worker; its callers have long left."""

SCRIPT_BYTES_MAX = 1_000_000
"""Largest reply that is written by the script, of which Redis makes copies meanwhile."""

_ANSWER = (Path(__file__).parent / "answer.lua").read_text()
_OTHERS_FIRST, _MAY_WAIT = 0, 1
"""Answers of the script without an entry: others come first, or the queue is empty."""

_NO, _YES, _TAKES_ITSELF = 0, 1, 2
"""Right of the script to take an entry; the last is for a child that takes the next one by a command behind it."""


class ChainBoard:
    """Memory that the main process shares with its children: what each needs to know of the other's chains."""

    _TASK_BYTES = 36

    def __init__(self, children: int) -> None:
        self._memory = mmap.mmap(-1, 1 + children * self._TASK_BYTES)

    @property
    def stopping(self) -> bool:
        """True once the worker is to end: no chain takes another batch."""
        return self._memory[0] != 0

    def stop(self) -> None:
        """Let all chains end after their current batch."""
        self._memory[0] = 1

    def note_answered(self, child: int, task_id: str) -> None:
        """Note that a child has answered the batch that Celery delivered."""
        start = 1 + child * self._TASK_BYTES
        self._memory[start : start + self._TASK_BYTES] = task_id.encode()[: self._TASK_BYTES].ljust(self._TASK_BYTES)

    def was_answered(self, task_id: str) -> bool:
        """Tell whether a child has answered the batch of a task, and ended while it ran another one of its chain."""
        noted = task_id.encode()[: self._TASK_BYTES].ljust(self._TASK_BYTES)
        return any(
            self._memory[at : at + self._TASK_BYTES] == noted for at in range(1, len(self._memory), self._TASK_BYTES)
        )


class Batch(NamedTuple):
    """A batch of a chain, with the header `traces` of its entry, unchecked."""

    message: PredictMessage
    traces: object


@dataclass(frozen=True)
class ChainOptions:
    """The place of a pool child, as its chains need it."""

    held: str
    """The key of the entries that this child holds."""

    queues: Sequence[str]
    """All queues of the worker; a chain takes from one of them, while the others are empty."""

    limit_seconds: float
    """The soft time limit of a task; 0 if a child takes no batches itself."""

    board: ChainBoard
    child: int
    """The place of this child in the pool."""


NO_CHAINS = ChainOptions(keys.held("", 0), (), 0.0, ChainBoard(1), 0)
"""Options with which each chain ends after the batch that Celery delivered."""


class BatchChain:
    """The chain of one pool child: writes replies, and takes the next batches in the same step."""

    def __init__(self, client: redis.Redis, options: ChainOptions) -> None:
        self._redis = client
        self._answer = client.register_script(_ANSWER)
        self._held = options.held
        self._queues = options.queues
        self._seconds = min(CHAIN_SECONDS, CHAIN_LIMIT_RATIO * options.limit_seconds)
        self._board = options.board
        self._child = options.child
        self._task_id = self._tag = self._queue = ""
        self._others: list[str] = []
        self._ends_at = float("-inf")
        self._found: bytes | int | None = None
        """The answer to the last step: the next entry, or what the script says instead; None before it is asked."""
        self._alone = False
        """True while the other queues were empty at the last step."""
        self._link: Any = client.connection_pool.make_connection()
        """Connection on which a reply is written and the next entry waited for in one write."""
        self._awaited = False
        """True while an entry may be on its way on that connection."""

    def run(self, first: Batch, queue: str, task_id: str) -> Iterator[Batch]:
        """Yield the batch that Celery delivered, then those that this child takes; reply to each before the next."""
        self._task_id, self._tag, self._queue = task_id, "", queue
        self._others = [each for each in self._queues if each != queue]
        self._ends_at = monotonic() + self._seconds
        self._alone = False
        batch: Batch | None = first
        while batch is not None:
            self._found = None
            yield batch
            batch = self._next()

    def reply(self, reply_to: str, reply: str) -> None:
        """Write the reply to the current batch, and take the next one.

        Raises:
            redis.RedisError: if the reply was not confirmed.
        """
        if len(reply) > SCRIPT_BYTES_MAX:
            with self._redis.pipeline(transaction=False) as pipe:
                pipe.xadd(reply_to, {"reply": reply}, maxlen=REPLIES_KEPT, approximate=True)
                pipe.expire(reply_to, REPLY_TTL_SECONDS)
                pipe.execute()
            reply = ""
        self._step(reply_to, reply)
        if not self._tag:
            self._board.note_answered(self._child, self._task_id)

    def _step(self, reply_to: str, reply: str) -> None:
        """Write a reply, let go of the current batch and take the next one, or begin to wait for it."""
        may_take = monotonic() < self._ends_at and not self._board.stopping
        keys = [reply_to, self._held, self._queue, *self._others]
        args: list[str | int] = [reply, REPLIES_KEPT, REPLY_TTL_SECONDS, self._tag, HELD_SECONDS]
        if self._awaited:
            # The last chain was broken off before its entry came; the script finds it.
            self._link.disconnect()
            self._awaited = self._alone = False
        if not (may_take and self._alone and self._step_and_wait(keys, [*args, _TAKES_ITSELF])):
            self._found = self._answer(keys=keys, args=[*args, _YES if may_take else _NO])
        self._alone = self._found != _OTHERS_FIRST

    def _step_and_wait(self, keys: list[str], args: list[str | int]) -> bool:
        """Take a step and wait for the next entry in one write; return False if the step must be taken again.

        Two writes, each answered before the next, would be a third of the time of a small batch.
        """
        commands: list[tuple[str | int | float, ...]] = [
            ("EVALSHA", self._answer.sha, len(keys), *keys, *args),
            ("BLMOVE", self._queue, self._held, "RIGHT", "LEFT", LINGER_SECONDS),
            ("EXPIRE", self._held, HELD_SECONDS),
        ]
        self._awaited = True
        try:
            self._link.send_packed_command(self._link.pack_commands(commands))
            self._found = self._link.read_response()
        except redis.RedisError:
            self._link.disconnect()
            self._awaited = False
        return self._awaited

    def _awaited_entry(self) -> bytes | None:
        entry: bytes | None = self._link.read_response()
        self._link.read_response()
        self._awaited = False
        return entry

    def _next(self) -> Batch | None:
        """Return the next batch; None if the chain ends."""
        try:
            return self._read_next()
        except redis.RedisError as error:
            # The callers of a batch that is held are answered at the next chain of this child, or at its end.
            logger.warning("no further batch was taken: %s", type(error).__name__)
            return None

    def _read_next(self) -> Batch | None:
        while True:
            if self._found is None:
                # The last batch could not be read, or its callers were not answered.
                self._step(self._held, "")
            entry = self._found
            if self._awaited:
                entry = self._awaited_entry() or entry
            elif entry == _MAY_WAIT:
                entry = self._wait()
            if not isinstance(entry, bytes):
                return None
            found = read(entry)
            if found is None or found.task != PREDICT_TASK:
                # Celery's consumer takes or discards any other entry.
                self._redis.lmove(self._held, self._queue, "LEFT", "RIGHT")
                return None
            self._tag, self._found = found.tag, None
            try:
                return Batch(PredictMessage.from_json(found.payload), found.traces)
            except (ValueError, MemoryError) as error:
                logger.error("dropped a PredictMessage that can't be read: %s", type(error).__name__)

    def _wait(self) -> bytes | None:
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.blmove(self._queue, self._held, LINGER_SECONDS, "RIGHT", "LEFT")  # type: ignore[arg-type]
            pipe.expire(self._held, HELD_SECONDS)
            # A connection that broke may have moved one before.
            pipe.lindex(self._held, 0)
            entry: bytes | None = pipe.execute()[-1]
        return entry
