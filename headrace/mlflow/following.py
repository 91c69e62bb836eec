"""An alias of MLflow's registry that a model store follows: each version to which it moves is imported and served."""

from collections.abc import Callable
from dataclasses import dataclass

from headrace.errors import MlflowUnusable, ModelNotFound
from headrace.mlflow.reference import Registered
from headrace.mlflow.tracking import ModelVersion, TrackingServer
from headrace.models.store import ModelStore

PAUSE_MAX_SECONDS = 600.0
"""Longest pause after failures, unless the interval is longer."""


def version_name(version: ModelVersion) -> str:
    """Return the name that a version of the registry has in a model store."""
    return f"mlflow-{version.number}"


def described(version: ModelVersion) -> str:
    """Return the description of an imported version, by which another import knows it again."""
    return f"From MLflow: {version}, registered at {version.created_at}"


@dataclass(frozen=True)
class Follower:
    """A model of a store that follows an alias of a registry.

    The store is its only memory: a version that is there was imported, before or after a restart.
    """

    server: TrackingServer
    wanted: Registered
    store: ModelStore
    name: str
    alias: str
    """The alias of the store that moves."""
    take: Callable[[ModelVersion], None]
    """Imports a version into the store, and moves no alias."""
    check: Callable[[str], None]
    """Checks a version of the store before it is served: others may write to the store."""

    def follow(self) -> str | None:
        """Look once, and catch up with the registry.

        Returns:
            A line on the change; None if there was none.

        Raises:
            HeadraceError, OSError: if it failed. Then the alias names the version that it named before.
        """
        found = self.server.version(self.wanted)
        version = version_name(found)
        served = self.store.aliases(self.name).get(self.alias)
        is_new = not is_there(self.store, self.name, found)
        if served == version and not is_new:
            return None
        if is_new:
            self.take(found)
        self.check(version)
        self.store.set_alias(self.name, self.alias, version)
        did = "imported and served" if is_new else "served"
        was = f" (was {served})" if served else ""
        return f"{self.wanted} is version {found.number}: {did} as {self.alias} of {self.name}, {version}{was}"


def is_there(store: ModelStore, name: str, version: ModelVersion) -> bool:
    """Return True if a version of the registry was imported before.

    Raises:
        MlflowUnusable: if the store has another one of the same number: its model was deleted and registered again.
    """
    there = version_name(version)
    try:
        manifest = store.manifest(name, there)
    except ModelNotFound:
        return False
    if manifest.description != described(version):
        raise MlflowUnusable(
            f"{name} {there} is in the store already, and is not {version} of {version.created_at}: remove it, or "
            "choose another name (--name)"
        )
    return True


def pause(interval: float, failures: int) -> float:
    """Return the seconds until the next look: the interval, and twice as long after each failure, up to a bound."""
    return min(interval * (1 << min(failures, 20)), max(interval, PAUSE_MAX_SECONDS))
