"""The state of an alias in the gateway, and its transitions; the states of all aliases."""

from collections.abc import Collection
from dataclasses import dataclass, replace

from gateway.catalog.rollout import Rollout
from gateway.catalog.served_model import ServedModel
from gateway.catalog.served_models import Key
from headrace.models.alias import LATEST, PRODUCTION

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


UNKNOWN = AliasState()


class AliasStates(dict[str, dict[str, AliasState]]):
    """States by name of the model and alias; a model without aliases has an empty dictionary."""

    def of(self, name: str) -> dict[str, AliasState]:
        """Return the states of a model's aliases; none if there is no such model."""
        return self.get(name, {})

    def meaning(self, name: str, reference: str | None) -> tuple[str, AliasState]:
        """Return the alias or version that a reference means, and its state; that of a version is empty."""
        states = self.of(name)
        if reference:
            return reference, states.get(reference, UNKNOWN)
        # The rule of `served_alias`, without a dictionary for each request.
        state = states.get(PRODUCTION, UNKNOWN)
        return (PRODUCTION, state) if state.current else (LATEST, states.get(LATEST, UNKNOWN))

    def hold_place(self, name: str, damaged: Collection[str]) -> None:
        """Let the store resolve a damaged alias that was never read, which fails until it is repaired."""
        # Without a state for `production`, callers who name no alias would be answered by `latest`.
        if PRODUCTION in damaged:
            self[name].setdefault(PRODUCTION, AliasState(PRODUCTION))

    def versions(self, name: str) -> dict[str, str]:
        """Return the version that each alias of a model means now."""
        return {alias: state.current for alias, state in self.of(name).items() if state.current is not None}

    def trials(self, name: str) -> dict[str, dict[str, object]]:
        """Return the running trials of a model by alias and kind."""
        return {
            alias: {
                kind: {"version": trial.version.manifest.version, "share": trial.share}
                for kind, trial in state.rollout.trials.items()
            }
            for alias, state in self.of(name).items()
            if state.rollout.trials
        }

    def meant(self, name: str) -> set[Key]:
        """Return the versions that aliases of a model mean."""
        return {(name, version) for version in self.versions(name).values()}

    def on_trial(self) -> set[Key]:
        """Return the versions of all running trials."""
        states = (state for states in self.values() for state in states.values())
        trials = (trial.version.manifest for state in states for trial in state.rollout.trials.values())
        return {(manifest.name, manifest.version) for manifest in trials}
