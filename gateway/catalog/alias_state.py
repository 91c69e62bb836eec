"""The state of an alias in the gateway, and its transitions."""

from dataclasses import dataclass, replace

from gateway.catalog.rollout import Rollout
from gateway.catalog.served_model import ServedModel

_NO_TRIALS: Rollout[ServedModel] = Rollout()


@dataclass(frozen=True)
class AliasState:
    """The version that an alias names here, the move that is pending, and the trials that are running.

    The gateway lags behind the store: it moves an alias once the workers have the new version in memory.
    """

    current: str | None = None
    """The version that answers; None until the first move of a new alias is done."""

    wanted: str | None = None
    """The version that the alias names in the store, while that is another one."""

    since: float = 0.0
    """Time at which the store was first seen to name `wanted`, in seconds of the monotonic clock."""

    rollout: Rollout[ServedModel] = _NO_TRIALS

    def pointed_to(self, version: str, now: float) -> "AliasState":
        """Return the state after the store was seen to name a version: at rest, or with a move to that version."""
        if version == self.current:
            return replace(self, wanted=None)
        return self if version == self.wanted else replace(self, wanted=version, since=now)

    def moved(self) -> "AliasState":
        """Return the state after the pending move is done."""
        return replace(self, current=self.wanted, wanted=None)

    def fallen_back(self, version: str, now: float) -> "AliasState":
        """Return the state in which an earlier version answers, and a move to the one that answered is pending."""
        return AliasState(version, self.wanted or self.current, self.since if self.wanted else now)

    def with_rollout(self, rollout: Rollout[ServedModel]) -> "AliasState":
        """Return the state with these trials in the place of the earlier ones."""
        return replace(self, rollout=rollout)

    def orphaned(self) -> "AliasState":
        """Return the state of an alias that the store lost: the same version, without a move and without trials."""
        return AliasState(self.current)
