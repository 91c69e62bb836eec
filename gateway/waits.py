"""How long a lane would keep someone waiting who comes now, told by how fast it was served of late."""

import math
import time
from collections.abc import Callable

MEMORY_SECONDS = 10.0
"""Time of waiting after which what was served weighs a third."""

SERVED_KEPT = 10
"""So many at least are remembered, however long that takes: a lane of slow jobs serves one now and then."""


class EstimatedWait:
    """What waits, times the seconds that each of it took lately while something waited.

    `waiting * busy_seconds / (served + 1)`: both sums fade, and only time in which something waited counts, for only
    then does the lane do what it can. The one more is what may be about to be served: so a lane in
    which nothing moves looks worse with every second, and not endless at once.

    It holds for everything that costs the lane time: computing, Celery, other lanes and other gateways. It takes what
    waits for as dear as what was served.
    """

    def __init__(self, longest_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`longest_seconds` is how long anyone waits at most: until a deadline, or until a job expires."""
        self._longest_seconds = longest_seconds
        self._clock = clock
        self._looked_at = clock()
        self._waiting = 0
        self._served_total = 0
        self._busy_seconds = self._served = 0.0

    def look(self, waiting: int, served_total: int) -> None:
        """So many wait now, and so many were served since ever; to be called about once a second."""
        now = self._clock()
        passed, served = now - self._looked_at, served_total - self._served_total
        if waiting and self._waiting and served >= 0:
            kept = math.exp(-passed / MEMORY_SECONDS) if self._served > SERVED_KEPT else 1.0
            self._busy_seconds = self._busy_seconds * kept + passed
            self._served = self._served * kept + served
        self._looked_at, self._waiting, self._served_total = now, waiting, served_total

    def seconds(self, slots: int) -> float:
        """The wait, as of the last look; without slots as long as can be."""
        if not slots:
            return self._longest_seconds
        return min(self._waiting * self._busy_seconds / (self._served + 1), self._longest_seconds)
