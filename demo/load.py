"""The sending side: calls at a steady rate and bursts, jobs followed to their end, until time is up or Ctrl-C."""

import asyncio
import math
import time
from collections.abc import Coroutine
from random import Random
from typing import Any

import httpx

from demo.report import Tally
from demo.traffic import BURST, JOB, WRONG, Call, Scenario, Traffic

PENDING_MAX = 200
"""Calls without an answer and followed jobs; calls that are due beyond it are held back."""

BEHIND_SECONDS_MAX = 0.5
"""A sender that is later than this does not catch up."""

DRAIN_SECONDS = 5.0
"""Time for answers and jobs to end after the last call."""

JOB_WAIT_SECONDS = 10
SPIKE_SECONDS = 1.0
SPIKE_CALLS_FIRST, SPIKE_CALLS_MAX = 4, 32
SPIKE_ROWS_MAX = 5_000
"""Rows in a call of a spike."""

OVERLOADED, TOO_LARGE = {503, 504}, {413, 422}
UNTYPICAL = {JOB, BURST, *WRONG}
"""Kinds whose latency is not what a caller with a few rows waits for a prediction."""

LOST = "lost sight of"
"""The end of a job that the gateway did not report; the job itself is safe."""


def connect(url: str) -> httpx.AsyncClient:
    """Return a client for a gateway."""
    return httpx.AsyncClient(
        base_url=url,
        timeout=30,
        # PENDING_MAX bounds the calls. Idle connections end here before the server closes them.
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=2),
        # A proxy for everything else can't reach this machine.
        trust_env=False,
    )


class Load:
    """An open-loop load: its pace does not depend on the answers.

    Bursts are spikes of one call after the other and all at once, which grow until some calls are turned away.
    """

    def __init__(
        self, client: httpx.AsyncClient, traffic: Traffic, bursts: Traffic, scenario: Scenario, rate: float, seed: int
    ) -> None:
        self.tally = Tally()
        self._client = client
        self._traffic = traffic
        self._bursts = bursts
        self._scenario = scenario
        self._rate = rate
        self._random = Random(seed)
        self._spike_calls, self._spike_rows = SPIKE_CALLS_FIRST, SPIKE_ROWS_MAX
        self._spike_pending = 0
        self._pending: set[asyncio.Task[Any]] = set()
        self._ending, self._hurry = asyncio.Event(), asyncio.Event()
        self._bug: BaseException | None = None
        self._started = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return asyncio.get_running_loop().time() - self._started

    def end(self) -> None:
        """Send no more; the second time, don't wait for answers either."""
        (self._hurry if self._ending.is_set() else self._ending).set()

    async def run(self, seconds: float) -> None:
        """Send for so long, or until `end` is called."""
        self._started = asyncio.get_running_loop().time()
        loops = [self._send_calls(), *([self._send_bursts()] if self._scenario.burst_every else [])]
        await _first_of(self._ending.wait(), *loops, seconds=seconds)
        self._ending.set()
        if self._pending:
            # A copy: the last task may leave the set before `wait` looks at it.
            await _first_of(self._hurry.wait(), asyncio.wait({*self._pending}), seconds=DRAIN_SECONDS)
        for task in self._pending:
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)
        if self._bug:
            raise self._bug

    async def _send_calls(self) -> None:
        due = self.elapsed
        while True:
            # Independent callers make a Poisson process.
            due = max(due, self.elapsed - BEHIND_SECONDS_MAX) + self._random.expovariate(self._rate)
            await asyncio.sleep(max(0.0, due - self.elapsed))
            call = self._traffic.call(self._scenario.drift(self.elapsed))
            if len(self._pending) < PENDING_MAX:
                self._spawn(self._send(call))
            else:
                self.tally.held_back += 1

    async def _send_bursts(self) -> None:
        while True:
            await asyncio.sleep(max(0.0, self._scenario.next_burst(self.elapsed) - self.elapsed))
            while self._scenario.next_burst(self.elapsed) <= self.elapsed:
                # Bursts end against a slow model too: at most two spikes wait for their answers.
                if self._spike_pending <= self._spike_calls:
                    self._spawn(self._spike())
                await asyncio.sleep(SPIKE_SECONDS)

    async def _spike(self) -> None:
        calls = self._spike_calls
        call = self._bursts.burst(self._scenario.drift(self.elapsed), self._spike_rows)
        self._spike_pending += calls
        try:
            statuses = await asyncio.gather(*(self._send(call) for _ in range(calls)))
        finally:
            self._spike_pending -= calls
        if TOO_LARGE.intersection(statuses):
            self._spike_rows = max(1, self._spike_rows // 2)
        elif not OVERLOADED.intersection(statuses):
            self._spike_calls = min(2 * calls, SPIKE_CALLS_MAX)

    async def _send(self, call: Call) -> int:
        """Send a call, and follow the job that it makes; return the status, 0 if no answer came."""
        started = time.perf_counter()
        status, headers = 0, httpx.Headers({"Content-Type": "application/json"})
        try:
            answer = await self._client.post(call.path, content=call.body, headers=headers)
            status, headers = answer.status_code, answer.headers
        except httpx.TransportError:
            pass
        now = time.perf_counter()
        self.tally.count(call.kind, status, now, now - started, typical=call.kind not in UNTYPICAL)
        if status == 202:
            self.tally.jobs_open += 1
            end = await self._follow(headers["Location"], call.cancel)
            self.tally.jobs_open -= 1
            self.tally.jobs_ended[end] += 1
        return status

    async def _follow(self, path: str, cancel: bool) -> str:
        """Return how a job ended."""
        try:
            if cancel:
                # A job that has ended before is fine as well.
                await self._client.delete(path)
            while True:
                answer = await self._client.get(path, params={"wait": JOB_WAIT_SECONDS})
                if answer.status_code != 200:
                    return LOST
                status: str = answer.json()["status"]
                if status not in ("queued", "running"):
                    return status
        except httpx.TransportError:
            return LOST

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._pending.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._pending.discard(task)
        if not task.cancelled() and task.exception():
            self._bug = task.exception()
            self._ending.set()


async def _first_of(*work: Coroutine[Any, Any, Any], seconds: float) -> None:
    """Wait until one of them has ended or the time is over; cancel the others, and raise errors."""
    tasks = [asyncio.create_task(each) for each in work]
    timeout = None if math.isinf(seconds) else seconds
    done, _ = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for task in done:
        task.result()
