"""Admission: what cannot be answered in time is refused at once, instead of being queued until it expires.

Limits of depth bound memory, estimated waits bound patience. Both checks compare a few numbers that are at hand.
"""

from typing import NamedTuple

from gateway.admission.wait_estimates import JobWaitEstimate
from gateway.errors import Overloaded, QueueFull
from gateway.settings import GatewaySettings

ADMITTED_SHARE = 0.8
"""Share of its deadline that a caller may be expected to wait: estimates err, and a wait in vain helps no caller."""

BROKER_FULL = 0.9
"""Share of Redis' memory above which no jobs are accepted; the rest is for outcomes, replies and predictions."""

ROOM_SECONDS_MIN, ROOM_SECONDS_MAX = 5.0, 60.0

NO_LIMIT = 10**15
"""Number of bytes, or of jobs, that is never reached."""


class JobLimits(NamedTuple):
    """Limits of memory that Redis checks with every submission, because it counts exactly."""

    coming_bytes: int = NO_LIMIT
    """Most bytes of the outcomes of open jobs."""
    owner_bytes: int = NO_LIMIT
    """Most bytes of the jobs of one owner."""


class JobsAdmission:
    """The decision whether jobs are accepted, from the queue as observed half a second ago.

    The limit of open jobs is not checked here: Redis counts them.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._expiry_seconds = settings.job_expiry_seconds
        self._wait = JobWaitEstimate(settings.job_expiry_seconds)
        self._broker_full = False
        self._memory_seconds: float | None = None
        self.wait_seconds = self._expiry_seconds
        """Estimated time for which a job that comes now would wait."""
        self._too_long = False
        self.limits = JobLimits()
        """Limits of memory, as of the last reading of Redis' state."""

    def observe(self, waiting: int, ended_total: int, memory_share: float, memory_seconds: float | None = None) -> None:
        """Take the queue's state.

        Args:
            waiting: number of waiting jobs.
            ended_total: number of jobs that ever ended.
            memory_share: the share of its memory that Redis uses.
            memory_seconds: time until it uses less than `BROKER_FULL`; None if that depends on the waiting jobs.
        """
        self._wait.observe(waiting, ended_total)
        self._broker_full = memory_share > BROKER_FULL
        self._memory_seconds = memory_seconds

    def decide(self, slots: int) -> None:
        """Decide anew, from what was last observed and the number of the workers' slots."""
        self.wait_seconds = self._wait.seconds(slots)
        # Without a worker jobs may wait: that is what they are for.
        self._too_long = slots > 0 and self.wait_seconds > ADMITTED_SHARE * self._expiry_seconds

    @property
    def room_seconds(self) -> float:
        """Time after which a refused job should be tried again: about a tenth of what waits is then done."""
        return min(max(self.wait_seconds / 10, ROOM_SECONDS_MIN), ROOM_SECONDS_MAX)

    def check(self) -> None:
        """Refuse a job that cannot be accepted now.

        Raises:
            QueueFull: if Redis has no memory for it.
            Overloaded: if it would expire before its turn.
        """
        if self._broker_full:
            seconds = self.room_seconds if self._memory_seconds is None else self._memory_seconds
            raise QueueFull("the queue's memory is nearly used up", seconds)
        if self._too_long:
            raise Overloaded("the job would expire before its turn", self.room_seconds)
