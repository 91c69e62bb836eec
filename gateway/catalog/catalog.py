"""The models, versions and aliases of the store, and the version that each name means now.

An alias moves only once the workers have the new version in memory, so that a move makes no caller wait. An alias does
not move to a version that a worker refuses: the old version stays.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress

from gateway.broker.workers import Workers
from gateway.catalog.alias_reader import AliasReader
from gateway.catalog.alias_state import UNKNOWN, AliasState, AliasStates
from gateway.catalog.rollout import Rollout, RunningTrial
from gateway.catalog.served_model import ServedModel
from gateway.catalog.served_models import RefusedVersions, ServedModels
from gateway.errors import ModelUnavailable, RequestError, UnknownModel
from gateway.fairness.turns import OwnerTurns
from headrace.errors import ModelError, ModelNotFound
from headrace.models.alias import LATEST, PRODUCTION, Alias, Trial, served_alias
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
"""Time that a move waits for the last workers, once one has the new version; and that a trial waits for new workers."""

LOOK_UPS_TOGETHER, LOOK_UP_WAIT_SECONDS = 4, 5.0
"""Versions looked up in the store for callers at a time, and longest wait for a turn: the store may be slow."""


class Catalog:
    """The models that are served, each read at its first request; all reading is in threads, as it may be slow."""

    def __init__(
        self, store: ModelStore, default_model: str, workers: Workers, make: Callable[[Manifest], ServedModel]
    ) -> None:
        self._store = store
        self.default_model = default_model
        self._workers = workers
        self._make = make
        self._making = threading.Lock()
        self._served = ServedModels()
        self._aliases = AliasStates()
        self._alias_reader = AliasReader(store, default_model)
        self._look_ups = OwnerTurns(LOOK_UPS_TOGETHER, wait_max_seconds=LOOK_UP_WAIT_SECONDS)
        # Callers fill no threads but these: the catalog's own reading never waits for look-ups.
        self._look_up_threads = ThreadPoolExecutor(LOOK_UPS_TOGETHER, "look-up")
        self._refused = RefusedVersions()

    def load(self) -> None:
        """Read the store for the first time; without the default model, the others are served; blocks.

        Raises:
            ModelError: if the store is not there or does not answer, or has the default model and it can't be served.
        """
        for name, (records, damaged) in self._alias_reader.read(self._aliases).items():
            self._aliases[name] = {alias: AliasState(record.version) for alias, record in records.items()}
            self._aliases.hold_place(name, damaged)
        try:
            self._add(self._made(self.default_model, self.alias_of(self.default_model), True))
        except ModelNotFound as error:
            if not self._store.exists():
                raise
            logger.error("DEFAULT_MODEL: %s; it is served once it is there, and other models are meanwhile", error)

    def alias_of(self, name: str) -> str:
        """Return the alias that answers callers who name neither an alias nor a version."""
        return self._aliases.meaning(name, None)[0]

    @property
    def served(self) -> Collection[ServedModel]:
        """All versions in memory."""
        return self._served.values()

    @property
    def names(self) -> list[str]:
        """Names of all models, sorted."""
        return sorted(self._aliases)

    def aliases(self, name: str) -> dict[str, str]:
        """Return the version that each alias of a model means now."""
        return self._aliases.versions(name)

    def moves(self, name: str) -> dict[str, dict[str, object]]:
        """Return the pending moves of a model by alias: the wanted version, and the reasons why workers refuse it."""
        return {
            alias: {"version": state.wanted, "refused": sorted(self._workers.refusals(f"{name} {state.wanted}"))}
            for alias, state in self._aliases.of(name).items()
            if state.wanted is not None
        }

    def trials(self, name: str) -> dict[str, dict[str, object]]:
        """Return the running trials of a model by alias and kind."""
        return self._aliases.trials(name)

    @property
    def default(self) -> ServedModel:
        """The version of the default model that answers now.

        Raises:
            UnknownModel: if the store has not had the default model yet.
        """
        served = self._default_now
        if served is None:
            raise UnknownModel(self.default_model)
        return served

    @property
    def lacks_default(self) -> bool:
        """Tell whether the store has not had the default model yet."""
        return self._default_now is None

    @property
    def _default_now(self) -> ServedModel | None:
        # Never a version on trial: the model that is described and probed must not change by chance.
        _, state = self._aliases.meaning(self.default_model, None)
        return self._served.get((self.default_model, state.current or ""))

    def served_now(self, name: str, reference: str | None = None, split_key: str = "") -> ServedModel | None:
        """Return the version that a name and an alias or version mean for a split key; None if it is not in memory."""
        reference, state = self._aliases.meaning(name, reference)
        served = self._served.get((name, state.current or reference))
        if served is None:
            return None
        served = state.rollout.choose(served, name, split_key)
        served.used_at = time.monotonic()
        return served

    def shadow_of(self, name: str, reference: str | None, answered: ServedModel) -> ServedModel | None:
        """Return the version that gets a copy of the rows that `answered` has answered, if any."""
        shadow = self._aliases.meaning(name, reference)[1].rollout.draw_shadow()
        return shadow if shadow is not answered else None

    async def get(self, name: str, reference: str | None = None, owner: str = "") -> ServedModel:
        """Return the version that a name and an alias or version mean, from the store if it is not in memory.

        Raises:
            UnknownModel: if the store has no such model, alias or version.
            Overloaded, QueueFull: if too many versions are looked up, or those in use leave no memory for it.
            ModelUnavailable: if the store does not answer, or the manifest is damaged.
        """
        served = self.served_now(name, reference)
        if served is not None:
            return served
        wanted = self._aliases.meaning(name, reference)[1].current or reference or LATEST
        async with self._look_ups.of(owner):
            # Another caller may have looked it up meanwhile.
            return self._served.get((name, wanted)) or await self._read(name, wanted, self._look_up_threads)

    async def _read(self, name: str, version: str, threads: Executor | None = None) -> ServedModel:
        """Read a version from the store in one of these threads, or in a common one; errors as in `get`."""
        self._refused.check((name, version))
        try:
            served = await asyncio.get_running_loop().run_in_executor(threads, self._made, name, version)
        except ModelNotFound:
            raise UnknownModel(name, version if name in self._aliases else "") from None
        except ModelError as error:
            self._refused.add((name, version), error)
            raise ModelUnavailable() from None
        return self._add(served)

    def _made(self, name: str, version: str, explain: bool = False) -> ServedModel:
        """Read a version and make the parser of its rows, one at a time: a wide one takes 0.5 s; blocks."""
        manifest = self._store.manifest(name, version, explain)
        with self._making:
            return self._served.get((manifest.name, manifest.version)) or self._make(manifest)

    async def step(self) -> None:
        """Follow the aliases of the store, then pause: a step of a background loop."""
        try:
            await self.refresh()
        except ModelError as error:
            logger.warning("model store: %s", error)
        await asyncio.sleep(self._store.look_seconds)

    async def refresh(self) -> None:
        """Follow the aliases of the store as far as the workers are ready; a damaged alias stays where it is.

        Raises:
            ModelError: if the store does not answer; then nothing changes.
        """
        read = await asyncio.to_thread(self._alias_reader.read, self._aliases)
        for name, (records, damaged) in read.items():
            states = self._aliases.setdefault(name, {})
            self._aliases.hold_place(name, damaged)
            for alias in states.keys() - records.keys() - damaged:
                if await self._can_drop(name, alias):
                    del states[alias]
                else:
                    states[alias] = states[alias].orphaned()
            for alias, record in records.items():
                await self._follow(name, alias, record)
        for name in self._aliases.keys() - read.keys():
            if name != self.default_model:
                del self._aliases[name]
                continue
            self._aliases[name] = {alias: state.orphaned() for alias, state in self._aliases[name].items()}
        await self._find_default()
        meant = (self._aliases.meant(name) for name in self._aliases)
        self._served.forget_unused(self._aliases.on_trial().union(*meant), time.monotonic())

    async def _find_default(self) -> None:
        """Read the default model if the store has it now and no caller has asked for it."""
        _, state = self._aliases.meaning(self.default_model, None)
        if state.current is not None and self.lacks_default:
            with suppress(RequestError):
                await self._read(self.default_model, state.current)

    async def _can_drop(self, name: str, alias: str) -> bool:
        """Tell whether an alias that the store lost can be dropped: some alias has to serve the default model."""
        if name != self.default_model or alias != self.alias_of(name):
            return True
        others = {each: version for each, version in self.aliases(name).items() if each != alias}
        successor = others.get(served_alias(others))
        return successor is not None and await self._read_ahead(name, successor, f"{alias} is kept") is not None

    async def _follow(self, name: str, alias: str, record: Alias) -> None:
        """Take over a record of the store: move its alias if the workers are ready, start and end its trials."""
        states = self._aliases[name]
        states[alias] = state = states.get(alias, UNKNOWN).pointed_to(record.version, time.monotonic())
        earlier = self._workers.held_instead(name, state.current, record.previous) if state.current else None
        if earlier and await self._read_ahead(name, earlier, f"{alias} stays {state.current}") is not None:
            logger.warning("%s: %s is %s, because workers refuse %s", name, alias, earlier, state.current)
            states[alias] = state = state.fallen_back(earlier, time.monotonic())
        if state.wanted is not None and await self._can_move(name, alias, state.wanted, state.since):
            logger.info("%s: %s is now %s, was %s", name, alias, state.wanted, state.current or "nothing")
            states[alias] = state = state.moved()
        split = await self._running(name, record.split, state.rollout.split)
        shadow = await self._running(name, record.shadow, state.rollout.shadow)
        states[alias] = state.with_rollout(Rollout(split, shadow))

    async def _can_move(self, name: str, alias: str, version: str, since: float) -> bool:
        if not self._workers_ready(name, version, time.monotonic() - since):
            return False
        # The first request for the new version of a model in use must not wait for its manifest.
        answers = alias in (self.alias_of(name), PRODUCTION) and self._in_use(name)
        return not answers or await self._read_ahead(name, version, f"{alias} does not move") is not None

    async def _running(
        self, name: str, trial: Trial | None, before: RunningTrial[ServedModel] | None
    ) -> RunningTrial[ServedModel] | None:
        """Return a trial of the store as a running one; None if there is none, or the workers are not ready for it."""
        if trial is None or not self._in_use(name):
            return None
        ready_at = now = time.monotonic()
        if not self._workers_ready(name, trial.version, 0.0):
            # Workers and children that start load one version after the other: meanwhile a running trial goes on.
            if before is None or before.version.manifest.version != trial.version:
                return None
            ready_at = before.ready_at
            if self._workers.refusals(f"{name} {trial.version}") or now - ready_at > PATIENCE_SECONDS:
                return None
        served = await self._read_ahead(name, trial.version, "it gets no trial")
        return RunningTrial(served, trial.share, ready_at) if served is not None else None

    async def _read_ahead(self, name: str, version: str, consequence: str) -> ServedModel | None:
        """Return a version before a request asks for it; None, after a log line, if it can't be read."""
        try:
            return self.served_now(name, version) or await self._read(name, version)
        except RequestError as error:
            logger.warning("%s %s can't be read, so %s: %s", name, version, consequence, error)
            return None

    def _in_use(self, name: str) -> bool:
        """Tell whether a worker holds any version of a model, or a caller has asked for one."""
        return self._served.holds(name) or bool(self._workers.holders(name, ""))

    def _workers_ready(self, name: str, version: str, waited_seconds: float) -> bool:
        """Tell whether the workers that hold a model have this version in memory; the others load it on demand."""
        if self._workers.refusals(f"{name} {version}"):
            return False
        holders = self._workers.holders(name, version)
        if not holders:
            # No worker holds the model, so waiting would not help; but a version that answers now must go on.
            current = self.aliases(name).get(self.alias_of(name))
            return current is None or not self._served.holds(name) or bool(self._workers.refusals(f"{name} {current}"))
        return all(holders.values()) or (any(holders.values()) and waited_seconds > PATIENCE_SECONDS)

    def _add(self, served: ServedModel) -> ServedModel:
        key = (served.manifest.name, served.manifest.version)
        if key not in self._served:
            self._served.add(served, lambda: self._aliases.meant(self.default_model) | self._aliases.on_trial())
        return self._served[key]
