"""Who is let in: what can't be answered in time is refused at once, instead of being queued to die.

Depths bound memory, estimated waits bound patience. Both checks are a few numbers that are at hand.
"""

from dataclasses import dataclass

from gateway.admission.wait_estimates import EstimatedWait
from gateway.errors import Overloaded, QueueFull
from gateway.settings import GatewaySettings

ADMITTED_SHARE = 0.8
"""How much of its deadline a caller may be expected to wait: estimates err, and what waits in vain serves nobody."""

BROKER_FULL = 0.9
"""Share of Redis' memory beyond which no jobs are taken in; what is left is for outcomes, replies and predictions."""

ROOM_SECONDS_MIN, ROOM_SECONDS_MAX = 5.0, 60.0


@dataclass
class WaitingRows:
    """The interactive rows that wait in this process, over all models."""

    limit: int
    rows: int = 0


class JobsAdmission:
    """Whether jobs are taken in, by what was seen of the queue half a second ago. Redis counts how many may be open."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._expiry_seconds = settings.job_expiry_seconds
        self._wait = EstimatedWait(settings.job_expiry_seconds)
        self._broker_full = False
        self.wait_seconds = self._expiry_seconds
        self._too_long = False

    def look(self, waiting: int, ended_total: int, memory_share: float) -> None:
        """So many jobs wait, so many ended since ever; the share of its memory that Redis has in use."""
        self._wait.look(waiting, ended_total)
        self._broker_full = memory_share > BROKER_FULL

    def judge(self, slots: int) -> None:
        """Make up its mind, by what was seen last and the slots of the workers."""
        self.wait_seconds = self._wait.seconds(slots)
        # Without a worker jobs may wait: that is what they are for.
        self._too_long = slots > 0 and self.wait_seconds > ADMITTED_SHARE * self._expiry_seconds

    @property
    def room_seconds(self) -> float:
        """When there is room again: when a tenth of what waits is done, about."""
        return min(max(self.wait_seconds / 10, ROOM_SECONDS_MIN), ROOM_SECONDS_MAX)

    def check(self) -> None:
        """Let a job in.

        Raises:
            QueueFull: if Redis has no memory for it.
            Overloaded: if it would expire before its turn.
        """
        if self._broker_full:
            raise QueueFull("the queue's memory is nearly used up", self.room_seconds)
        if self._too_long:
            raise Overloaded("the job would expire before its turn", self.room_seconds)
