"""Overload: more rows at once than the workers can take, in spikes that grow until some are turned away."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from demo.sampler import Sampler
from demo.traffic import BURST, Call, encoded

SPIKE_SECONDS = 1.0
CALLS_FIRST = 4
CALLS_MOST = 32
ROWS_MOST = 5_000
"""In a call."""

VALUES_DRAWN = 8_000
"""For a spike; drawing them takes as many microseconds. Its calls hold the same rows, again and again."""

BODY_MOST_BYTES = 2_000_000
OVERLOADED = {503, 504}
TOO_MUCH = {413, 422}

Send = Callable[[Call], Coroutine[Any, Any, int]]


class Burst:
    """Remembers from one burst to the next how much it takes."""

    def __init__(self, sampler: Sampler, prefix: str, send: Send) -> None:
        self._sampler = sampler
        self._path = f"{prefix}/predict"
        self._send = send
        self._calls = CALLS_FIRST
        self._rows = ROWS_MOST
        self._unanswered = 0

    async def spike(self, drift: float) -> None:
        """Send one, and wait for its answers.

        Nothing is sent as long as more than another spike is on its way: against a slow model, bursts end too.
        """
        if self._unanswered > self._calls:
            return
        call = Call(BURST, self._path, self.body(drift))
        self._unanswered += self._calls
        calls = self._calls
        try:
            statuses = await asyncio.gather(*(self._send(call) for _ in range(calls)))
        finally:
            self._unanswered -= calls
        if TOO_MUCH.intersection(statuses):
            self._rows = max(1, self._rows // 2)
        elif not OVERLOADED.intersection(statuses):
            self._calls = min(2 * calls, CALLS_MOST)

    def body(self, drift: float) -> bytes:
        """Instances, as many as may be."""
        columns = len(self._sampler.row())
        different = min(self._rows, max(1, VALUES_DRAWN // columns))
        drawn = b",".join(encoded(self._sampler.row(drift)) for _ in range(different))
        times = max(1, min(self._rows // different, BODY_MOST_BYTES // len(drawn)))
        return b'{"instances":[%s]}' % b",".join([drawn] * times)
