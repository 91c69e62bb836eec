"""Callers that wait for the outcomes of jobs: one or ten thousand, for one job or as many."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from gateway.errors import BrokerUnavailable
from gateway.jobs.record import Job, Record, job_of
from shared.observability.log_context import detached

POLL_SECONDS = 0.5
"""Time between two reads of a record that a caller waits for: pub/sub may lose a wake-up."""

POLLS_PER_SECOND_MAX = 500
"""Limit of those reads for all callers together: ten thousand callers must leave the gateway time for others."""

WAKE_UP_BYTES_MAX = 100_000
"""Size of a wake-up above which it is ignored: 2,700 jobs, many more than end together. Their callers also poll."""

WOKEN_TOGETHER = 20
"""Callers that are woken before the event loop turns to other work: an answer takes a good part of a millisecond."""


class JobWaiters:
    """The callers that wait for jobs; a record is read once for all that want it at the same time."""

    def __init__(self, read: Callable[[str, str], Coroutine[Any, Any, Record | None]]) -> None:
        """`read` returns the record of a job for an owner, None if Redis does not answer."""
        self._read = read
        self._reading: dict[str, dict[str, asyncio.Task[Record | None]]] = {}
        """Reads that are under way, by job id and owner: an owner's may leave out what another's may not."""
        self.waiting: dict[str, set[asyncio.Event]] = {}
        """The wake-ups of the callers that wait, by job id."""
        self._n_waiting = 0
        self._released = False

    async def wait(self, job_id: str, seconds: float, owner: str = "") -> Job | None:
        """Return a job once it has its outcome, or as it is when the time is over; a large outcome is left out.

        Returns:
            None if the id is unknown, aged out or another owner's.

        Raises:
            BrokerUnavailable: if Redis does not answer.
            Overloaded: if too many records are being read.
            RecordDamaged: if the record can't be read.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        event = asyncio.Event()
        self.waiting.setdefault(job_id, set()).add(event)
        self._n_waiting += 1
        try:
            while True:
                job = await self._read_job(job_id, owner)
                rest_seconds = until - loop.time()
                if job is None or job.ended or rest_seconds <= 0 or self._released:
                    return job
                poll_seconds = max(POLL_SECONDS, self._n_waiting / POLLS_PER_SECOND_MAX)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(event.wait(), min(rest_seconds, poll_seconds))
                event.clear()
        finally:
            self._n_waiting -= 1
            events = self.waiting[job_id]
            events.discard(event)
            if not events:
                del self.waiting[job_id]

    def release(self) -> None:
        """Let all callers read the present state, and none wait from now on: the process stops."""
        self._released = True
        for events in self.waiting.values():
            for event in events:
                event.set()

    async def wake(self, message: bytes) -> None:
        """Let the callers that wait for jobs read their outcomes; `message` has the jobs' ids, with spaces between."""
        woken = 0
        if len(message) > WAKE_UP_BYTES_MAX:
            return
        for job_id in message.decode(errors="replace").split():
            # A read that is under way may return the record without its outcome.
            self._reading.pop(job_id, None)
            for event in list(self.waiting.get(job_id, ())):
                event.set()
                woken += 1
                if woken % WOKEN_TOGETHER == 0:
                    await asyncio.sleep(0)

    async def _read_job(self, job_id: str, owner: str) -> Job | None:
        readings = self._reading.setdefault(job_id, {})
        reading = readings.get(owner)
        if reading is None:
            reading = readings[owner] = detached(self._read(job_id, owner))
            reading.add_done_callback(lambda done: self._read_done(job_id, owner, done))
        # Shielded, because other callers may wait for the same read if this one leaves.
        record = await asyncio.shield(reading)
        if record is None:
            raise BrokerUnavailable()
        return job_of(job_id, record, owner)

    def _read_done(self, job_id: str, owner: str, done: "asyncio.Task[Record | None]") -> None:
        readings = self._reading.get(job_id, {})
        if readings.get(owner) is done:
            del readings[owner]
            if not readings:
                del self._reading[job_id]
        if not done.cancelled():
            # The callers may have gone.
            done.exception()
