"""Trials of second versions: a split answers a share of the callers, a shadow gets a copy of a share of the rows."""

import hashlib
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

Version = TypeVar("Version")


@dataclass(frozen=True)
class RunningTrial(Generic[Version]):
    """A version on trial for which the workers are ready, and its share of the requests, from 0 to 1."""

    version: Version
    share: float
    ready_at: float = 0.0
    """Time at which the workers were last seen to have the version in memory, in seconds of the monotonic clock."""


@dataclass(frozen=True)
class Rollout(Generic[Version]):
    """The running trials of an alias."""

    split: RunningTrial[Version] | None = None
    shadow: RunningTrial[Version] | None = None

    @property
    def trials(self) -> Mapping[str, RunningTrial[Version]]:
        """Trials by their kind, `split` or `shadow`."""
        return {kind: trial for kind, trial in (("split", self.split), ("shadow", self.shadow)) if trial is not None}

    def choose(self, primary: Version, name: str, key: str) -> Version:
        """Choose the version that answers; the same for the same key (of a user, of a session) while shares stay."""
        if self.split is not None and _fraction(name, key) < self.split.share:
            return self.split.version
        return primary

    def draw_shadow(self) -> Version | None:
        """Draw whether a request's rows go to the shadow too; return the shadow if they do."""
        return self.shadow.version if self.shadow is not None and random.random() < self.shadow.share else None


def _fraction(name: str, key: str) -> float:
    """Map a key to a number from 0 to 1; without a key the number is random."""
    if not key:
        return random.random()
    digest = hashlib.sha256(f"{name}\0{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
