"""A worker group under an autoscaler that follows the scaling signal, second by second, on paper.

The autoscaler is that of Kubernetes: every 15 s, a tolerance of a tenth, at most four pods or as many again at a time,
and the greatest recommendation of a window before pods go. Work is a fluid: its unit is a second of a slot.
"""

import itertools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.admission.scaling import BUSY_SECONDS, wanted_workers

PERIOD_SECONDS, TOLERANCE, STEP_PODS = 15, 0.1, 4


@dataclass
class Group:
    """A worker group with its queue and its autoscaler."""

    load: Callable[[int], float]
    """Slots that the arriving work of a second keeps busy."""

    slots_per_worker: int = 2
    start_seconds: int = 20
    window_seconds: int = 600
    least: int = 1
    most: int = 20
    replicas: int = 1
    now: int = 0
    backlog: float = 0.0
    ready_at: list[int] = field(default_factory=lambda: [0])
    busy: deque[float] = field(default_factory=lambda: deque(maxlen=int(BUSY_SECONDS)))
    recommended: deque[tuple[int, int]] = field(default_factory=deque)
    history: list[int] = field(default_factory=list)
    """Replicas of each second."""

    scaled_in: list[tuple[int, float]] = field(default_factory=list)
    """Slots that were left by each scaling in, and those that were busy in the minute before."""

    @property
    def slots(self) -> int:
        return self.slots_per_worker * sum(at <= self.now for at in self.ready_at)

    def run(self, seconds: int) -> "Group":
        for _ in range(seconds):
            work = self.backlog + self.load(self.now)
            done = min(work, float(self.slots))
            self.backlog = work - done
            self.busy.append(done)
            if self.now % PERIOD_SECONDS == 0 and self.slots:
                self._scale()
            self.history.append(self.replicas)
            self.now += 1
        return self

    def lose_a_worker(self) -> None:
        """Replace a worker that died; the new one needs its time to start."""
        self.ready_at[0] = self.now + self.start_seconds
        self.ready_at.sort()

    def _scale(self) -> None:
        waits = {"interactive": self.backlog / self.slots}
        signal = wanted_workers(sum(self.busy) / len(self.busy), self.slots, waits, self.slots_per_worker)
        near = abs(signal / self.replicas - 1) <= TOLERANCE
        desired = self.replicas if near else max(self.least, min(self.most, math.ceil(signal)))
        self.recommended.append((self.now, desired))
        while self.recommended[0][0] <= self.now - self.window_seconds:
            self.recommended.popleft()
        if desired > self.replicas:
            added = min(desired - self.replicas, max(STEP_PODS, self.replicas))
            self.ready_at += [self.now + self.start_seconds] * added
            self.replicas += added
            return
        left = min(self.replicas, max(each for _, each in self.recommended))
        if left < self.replicas:
            del self.ready_at[left:]
            self.replicas = left
            self.scaled_in.append((self.slots, sum(self.busy) / len(self.busy)))


def turns(history: list[int]) -> int:
    """Return how often the number of workers changed its direction."""
    changes = [later - earlier for earlier, later in itertools.pairwise(history) if later != earlier]
    return sum((earlier > 0) != (later > 0) for earlier, later in itertools.pairwise(changes))
