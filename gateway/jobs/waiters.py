"""Callers who wait for the outcome of jobs: one or ten thousand, of one job or as many."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from gateway.errors import BrokerUnavailable
from gateway.jobs.record import Job, Record, job_of
from shared.observability.log_context import detached

POLL_SECONDS = 0.5
"""How often a waiting caller's record is read, in case its wake-up was missed: pub/sub promises nothing."""

POLLS_PER_SECOND_MAX = 500
"""Such reads, of all callers together: ten thousand who wait must leave the gateway time for others."""

WOKEN_TOGETHER = 20
"""Callers who are answered before it is others' turn: an answer takes the event loop a good part of a millisecond."""


class JobWaiters:
    """Wakes who waits when a job has ended. A record is read once for all who want it at the same time."""

    def __init__(self, read: Callable[[str], Coroutine[Any, Any, Record | None]]) -> None:
        """`read` gives the record of a job, None if Redis does not answer."""
        self._read = read
        self._reading: dict[str, asyncio.Task[Record | None]] = {}
        self.waiting: dict[str, set[asyncio.Event]] = {}
        self._n_waiting = 0

    async def wait(self, job_id: str, seconds: float, owner: str = "") -> Job | None:
        """The record of a job as soon as it has its outcome, or as it is when the time is over; None as in `Jobs.get`.

        Raises:
            BrokerUnavailable: if Redis does not answer.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        event = asyncio.Event()
        self.waiting.setdefault(job_id, set()).add(event)
        self._n_waiting += 1
        try:
            while True:
                job = await self._look(job_id, owner)
                left = until - loop.time()
                if job is None or job.ended or left <= 0:
                    return job
                poll_seconds = max(POLL_SECONDS, self._n_waiting / POLLS_PER_SECOND_MAX)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(event.wait(), min(left, poll_seconds))
                event.clear()
        finally:
            self._n_waiting -= 1
            events = self.waiting[job_id]
            events.discard(event)
            if not events:
                del self.waiting[job_id]

    async def wake(self, job_ids: Iterable[str]) -> None:
        """These jobs have their outcome."""
        woken = 0
        for job_id in job_ids:
            # What is being read now may be of before.
            self._reading.pop(job_id, None)
            for event in list(self.waiting.get(job_id, ())):
                event.set()
                woken += 1
                if woken % WOKEN_TOGETHER == 0:
                    await asyncio.sleep(0)

    async def _look(self, job_id: str, owner: str) -> Job | None:
        reading = self._reading.get(job_id)
        if reading is None:
            reading = self._reading[job_id] = detached(self._read(job_id))
            reading.add_done_callback(lambda done: self._read_done(job_id, done))
        # A caller who leaves does not take it from the others.
        record = await asyncio.shield(reading)
        if record is None:
            raise BrokerUnavailable()
        return job_of(job_id, record, owner)

    def _read_done(self, job_id: str, done: "asyncio.Task[Record | None]") -> None:
        if self._reading.get(job_id) is done:
            del self._reading[job_id]
