"""The models that can be asked for: names, versions and aliases of the store, and what each name means now.

An alias is followed only when the workers have the new version in memory, so that a swap costs no caller anything; a
version that a worker refuses is not followed, and the old one stays.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from gateway.batching.batcher import Batcher
from gateway.broker.workers import Workers
from gateway.catalog.rollout import Trials
from gateway.catalog.row_parser import RowParser
from gateway.problems import Problem, overloaded
from headrace.errors import ModelError, ModelNotFound
from headrace.models.alias import LATEST, PRODUCTION, Alias, served_alias
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
"""How long a swap waits for the last workers, once one has the new version."""

KEEP_SECONDS = 60.0
"""How long a version that no name means any more is kept ready."""


@dataclass(eq=False)
class ServedModel:
    """One version that rows can be sent to."""

    manifest: Manifest
    parser: RowParser
    batcher: Batcher
    used_at: float = field(default_factory=time.monotonic)

    @property
    def label(self) -> str:
        """As workers announce it."""
        return f"{self.manifest.name} {self.manifest.version}"


_NO_TRIALS: Trials[ServedModel] = Trials()


class Catalog:
    """What is served. The store is read in threads: it may be far away."""

    def __init__(
        self, store: ModelStore, default_model: str, workers: Workers, make: Callable[[Manifest], ServedModel]
    ) -> None:
        self._store = store
        self.default_model = default_model
        self._workers = workers
        self._make = make
        self._served: dict[tuple[str, str], ServedModel] = {}
        self._aliases: dict[str, dict[str, str]] = {}
        """Name -> alias -> the version that it means here."""
        self._trials: dict[tuple[str, str], Trials[ServedModel]] = {}
        self._moves: dict[tuple[str, str], tuple[str, float]] = {}
        """(name, alias) -> the version that it shall mean, and since when."""

    def load(self) -> None:
        """Read the store for the first time; blocks.

        Raises:
            ModelError: if the default model is not there.
        """
        for name in self._store.names():
            self._aliases[name] = self._store.aliases(name)
        self._add(self._store.manifest(self.default_model, self.alias_of(self.default_model)))

    def alias_of(self, name: str) -> str:
        """The alias by which a model is served when nobody says which."""
        return served_alias(self._aliases.get(name, {}))

    @property
    def served(self) -> Collection[ServedModel]:
        """All versions in memory."""
        return self._served.values()

    @property
    def names(self) -> list[str]:
        """All models."""
        return sorted(self._aliases)

    def aliases(self, name: str) -> dict[str, str]:
        """Alias -> the version that it means now."""
        return dict(self._aliases.get(name, {}))

    def moves(self, name: str) -> dict[str, dict[str, object]]:
        """Alias -> the version that it shall mean, and which reasons speak against it."""
        return {
            alias: {"version": version, "refused": sorted(self._workers.refusals(f"{name} {version}"))}
            for (model, alias), (version, _) in self._moves.items()
            if model == name
        }

    @property
    def default(self) -> ServedModel:
        """The default model as it is served now."""
        # Not the version on trial that a split could choose: what is shown and probed must not change by chance.
        aliases = self._aliases[self.default_model]
        served = self._served.get((self.default_model, aliases[self.alias_of(self.default_model)]))
        if served is None:
            raise LookupError("the default model was loaded at the start and can't have gone")
        return served

    def served_now(self, name: str, reference: str | None = None, split_key: str = "") -> ServedModel | None:
        """What a name and an alias or version mean now, for this key, if that is in memory."""
        aliases = self._aliases.get(name, {})
        reference = reference or self.alias_of(name)
        served = self._served.get((name, aliases.get(reference, reference)))
        if served is None:
            return None
        if self._trials:
            served = self._trials.get((name, reference), _NO_TRIALS).answers(served, name, split_key)
        served.used_at = time.monotonic()
        return served

    def shadow_of(self, name: str, reference: str | None, answered: ServedModel) -> ServedModel | None:
        """The version that shall be asked too, after `answered` has answered."""
        if not self._trials:
            return None
        shadow = self._trials.get((name, reference or self.alias_of(name)), _NO_TRIALS).shadows()
        return shadow if shadow is not answered else None

    def trials(self, name: str) -> dict[str, dict[str, object]]:
        """Alias -> the trials that are going on."""
        return {
            alias: {
                kind: {"version": served.manifest.version, "share": share}
                for kind, served, share in (
                    ("split", trials.split, trials.split_share),
                    ("shadow", trials.shadow, trials.shadow_share),
                )
                if served is not None
            }
            for (model, alias), trials in self._trials.items()
            if model == name
        }

    async def get(self, name: str, reference: str | None = None) -> ServedModel:
        """The same, and read from the store if it is not in memory.

        Raises:
            Problem: 404 if there is no such model or version, 503 if the store does not answer.
        """
        served = self.served_now(name, reference)
        if served is not None:
            return served
        wanted = self._aliases.get(name, {}).get(reference or self.alias_of(name), reference or LATEST)
        try:
            manifest = await asyncio.to_thread(self._store.manifest, name, wanted)
        except ModelNotFound:
            raise Problem(404, "unknown_model", "the model store has no such model, version or alias") from None
        except ModelError as error:
            logger.error("%s %s can't be served: %s", name, wanted, error)
            raise overloaded("model_unavailable", "this version can't be read", 5) from None
        return self._add(manifest)

    async def step(self) -> None:
        """Look whether aliases were moved, then pause: a background loop's step."""
        try:
            await self.refresh()
        except ModelError as error:
            logger.warning("model store: %s", error)
        await asyncio.sleep(self._store.look_seconds)

    async def refresh(self) -> None:
        """Follow the aliases of the store as far as the workers are ready.

        Raises:
            ModelError: if the store does not answer; everything stays as it is.
        """
        read = await asyncio.to_thread(lambda: {name: self._store.alias_records(name) for name in self._store.names()})
        for name, records in read.items():
            known = self._aliases.setdefault(name, {})
            for alias in known.keys() - records.keys():
                if await self._can_go(name, alias):
                    del known[alias]
            for alias, record in records.items():
                await self._follow(name, alias, record.version)
                await self._try(name, alias, record)
        for name in self._aliases.keys() - read.keys() - {self.default_model}:
            del self._aliases[name]
        for gone in [key for key in self._moves.keys() | self._trials.keys() if key[1] not in read.get(key[0], ())]:
            self._moves.pop(gone, None)
            self._trials.pop(gone, None)
        self._forget_unused()

    async def _can_go(self, name: str, alias: str) -> bool:
        """Whether an alias that the store has no more can be forgotten: the default model must mean something."""
        if name != self.default_model or alias != self.alias_of(name):
            return True
        others = {other: version for other, version in self._aliases[name].items() if other != alias}
        if served_alias(others) not in others:
            return False
        try:
            await self.get(name, served_alias(others))
        except Problem:
            return False
        return True

    async def _follow(self, name: str, alias: str, version: str) -> None:
        if self._aliases[name].get(alias) == version:
            self._moves.pop((name, alias), None)
            return
        wanted, since = self._moves.get((name, alias), ("", 0.0))
        if wanted != version:
            since = time.monotonic()
            self._moves[name, alias] = (version, since)
        if not self._ready(name, version, time.monotonic() - since):
            return
        if alias == self.alias_of(name) or alias == PRODUCTION:
            # The first request for the new version must not wait for its manifest.
            try:
                await self.get(name, version)
            except Problem as problem:
                logger.warning("%s %s is not followed to %s: %s", name, alias, version, problem.detail)
                return
        logger.info("%s: %s is now %s, was %s", name, alias, version, self._aliases[name].get(alias, "nothing"))
        self._aliases[name][alias] = version
        del self._moves[name, alias]

    async def _try(self, name: str, alias: str, record: Alias) -> None:
        """Start and end the trials of an alias."""
        ready: dict[str, ServedModel | None] = {}
        for kind, trial in (("split", record.split), ("shadow", record.shadow)):
            ready[kind] = None
            if trial is not None and self._ready(name, trial.version, 0.0):
                try:
                    ready[kind] = await self.get(name, trial.version)
                except Problem as problem:
                    logger.warning("%s: no trial of %s: %s", name, trial.version, problem.detail)
        if any(ready.values()):
            self._trials[name, alias] = Trials(
                ready["split"],
                record.split.share if record.split else 0.0,
                ready["shadow"],
                record.shadow.share if record.shadow else 0.0,
            )
        else:
            self._trials.pop((name, alias), None)

    def _ready(self, name: str, version: str, waited_seconds: float) -> bool:
        """Whether workers that serve this model have the version in memory; who has none of it loads it on demand."""
        if self._workers.refusals(f"{name} {version}"):
            return False
        holders = self._workers.holders(name)
        if not holders:
            # Nobody has it, or nobody is there: nothing would be better later, unless it is being served now.
            return self.alias_of(name) not in self._aliases[name] or not self._served_at_all(name)
        loaded = self._workers.loaded_by(f"{name} {version}")
        ready = [worker for worker in holders if loaded.get(worker)]
        return len(ready) == len(holders) or (bool(ready) and waited_seconds > PATIENCE_SECONDS)

    def _served_at_all(self, name: str) -> bool:
        return any(model == name for model, _ in self._served)

    def _add(self, manifest: Manifest) -> ServedModel:
        key = (manifest.name, manifest.version)
        if key not in self._served:
            self._served[key] = self._make(manifest)
        return self._served[key]

    def _forget_unused(self) -> None:
        meant = {(name, version) for name, aliases in self._aliases.items() for version in aliases.values()}
        for trials in self._trials.values():
            meant |= {(v.manifest.name, v.manifest.version) for v in (trials.split, trials.shadow) if v}
        now = time.monotonic()
        for key, served in list(self._served.items()):
            if key not in meant and served.batcher.idle and now - served.used_at > KEEP_SECONDS:
                del self._served[key]
