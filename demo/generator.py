"""Sends at its own pace, whatever the answers do, until the time is over or somebody ends it."""

import asyncio
import math
from collections.abc import Coroutine
from random import Random
from typing import Any

from demo.burst import SPIKE_SECONDS, Burst
from demo.scenario import Scenario
from demo.sender import Sender
from demo.tally import Tally
from demo.traffic import Traffic

ON_THEIR_WAY_MOST = 200
"""Calls and followed jobs; beyond it, what is due is held back."""

BEHIND_SECONDS = 0.5
"""Whoever is later than that does not catch up."""

DRAIN_SECONDS = 5.0
"""For answers and jobs to end, after the last call."""


class Generator:
    """Calls at a rate per second, and bursts besides."""

    def __init__(
        self, traffic: Traffic, burst: Burst, sender: Sender, tally: Tally, scenario: Scenario, rate: float, seed: int
    ) -> None:
        self._traffic = traffic
        self._burst = burst
        self._sender = sender
        self._tally = tally
        self._scenario = scenario
        self._rate = rate
        self._random = Random(seed)
        self._on_their_way: set[asyncio.Task[Any]] = set()
        self._ending = asyncio.Event()
        self._hurry = asyncio.Event()
        self._bug: BaseException | None = None
        self._started = 0.0

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return asyncio.get_running_loop().time() - self._started

    @property
    def on_their_way(self) -> int:
        """Calls without an answer, and jobs that are followed."""
        return len(self._on_their_way)

    def end(self) -> None:
        """Send no more; the second time, don't wait for answers either."""
        (self._hurry if self._ending.is_set() else self._ending).set()

    async def run(self, seconds: float) -> None:
        """Send for so long; `inf`: until `end` is called."""
        self._started = asyncio.get_running_loop().time()
        loops = [self._send_calls(), *([self._send_bursts()] if self._scenario.burst_every else [])]
        await _first_of(self._ending.wait(), *loops, seconds=seconds)
        self._ending.set()
        if self._on_their_way:
            # Of a copy: by the time this looks at it, the last may have left the set.
            await _first_of(self._hurry.wait(), asyncio.wait({*self._on_their_way}), seconds=DRAIN_SECONDS)
        for task in self._on_their_way:
            task.cancel()
        await asyncio.gather(*self._on_their_way, return_exceptions=True)
        if self._bug:
            raise self._bug

    async def _send_calls(self) -> None:
        due = self.elapsed
        while True:
            # As independent callers come: a Poisson process.
            due = max(due, self.elapsed - BEHIND_SECONDS) + self._random.expovariate(self._rate)
            await asyncio.sleep(max(0.0, due - self.elapsed))
            call = self._traffic.call(self._scenario.drift(self.elapsed))
            if self.on_their_way < ON_THEIR_WAY_MOST:
                self._spawn(self._sender.send(call))
            else:
                self._tally.held_back += 1

    async def _send_bursts(self) -> None:
        while True:
            await asyncio.sleep(max(0.0, self._scenario.next_burst(self.elapsed) - self.elapsed))
            while self._scenario.in_burst(self.elapsed):
                self._spawn(self._burst.spike(self._scenario.drift(self.elapsed)))
                await asyncio.sleep(SPIKE_SECONDS)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(work)
        self._on_their_way.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._on_their_way.discard(task)
        if not task.cancelled() and task.exception():
            self._bug = task.exception()
            self._ending.set()


async def _first_of(*work: Coroutine[Any, Any, Any], seconds: float) -> None:
    """Wait until one of them has ended, for so long at most; the others are cancelled, and errors raised."""
    tasks = [asyncio.create_task(each) for each in work]
    timeout = None if math.isinf(seconds) else seconds
    done, _ = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    for task in done:
        task.result()
