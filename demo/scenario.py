"""What happens when: rows as in training, a drift that sets in and stays, and bursts now and then."""

import math
from dataclasses import dataclass

RAMP_SECONDS = 10.0
"""How long the drift takes to be whole."""

BURST_SECONDS = 8.0


@dataclass(frozen=True)
class Scenario:
    """Times are in seconds since the start."""

    drift_after: float = 35.0
    """`inf`: never."""

    burst_every: float = 40.0
    """The first one comes after half of it. 0: none."""

    def drift(self, elapsed: float) -> float:
        """Strength of the drift, 0 to 1."""
        return min(max((elapsed - self.drift_after) / RAMP_SECONDS, 0.0), 1.0)

    def in_burst(self, elapsed: float) -> bool:
        """Whether a burst is on."""
        return self.next_burst(elapsed) <= elapsed

    def next_burst(self, elapsed: float) -> float:
        """When the burst that is on has begun, or else the next one begins; `inf` if there are none."""
        if not self.burst_every:
            return math.inf
        first = self.burst_every / 2
        last = first + max(0, math.floor((elapsed - first) / self.burst_every)) * self.burst_every
        return last if elapsed < last + BURST_SECONDS else last + self.burst_every

    def phase(self, elapsed: float) -> str:
        """In a word: `steady`, `drift` or `burst`."""
        if self.in_burst(elapsed):
            return "burst"
        return "drift" if self.drift(elapsed) else "steady"
