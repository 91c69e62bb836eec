"""The worker's metrics, counted in the pool children and added up when the main process is scraped.

Each process counts into files of its own (`shared/observability/multiprocess.py`), named by `metrics_shard`.
"""

import logging
import os
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from billiard.process import current_process
from prometheus_client import Counter

from headrace.models.manifest import Feature, Manifest
from shared.observability import metric_names as names
from shared.queue.contract import Lane
from worker.metrics.families import MetricFamilies
from worker.metrics.harmless import harmless
from worker.metrics.model import FEATURES_MAX, SERIES_MAX, ModelMetrics, n_series

logger = logging.getLogger(__name__)

TRIALS_MAX = 100
"""Pairs of versions of a trial that have labels of their own; others are counted as `other`."""

WAIT_MAX_SECONDS = 1e9
"""Time that is counted at most: queue entries and records say when they were accepted, and a sum must stay finite."""

_Version = tuple[str, str]


class ShadowCounts(NamedTuple):
    """Rows of a version on trial, by agreement."""

    same: Counter
    different: Counter
    failed: Counter


def child_index() -> int | None:
    """Return the place of this process in the pool; None in the main process.

    billiard gives an index to a new child only after it has joined the old child with that index.
    """
    index: int | None = getattr(current_process(), "index", None)
    return index


def metrics_shard() -> str:
    """Return the name of this process in the names of its metrics files, which must not contain an underscore."""
    # A pool child takes over the files of the child before it.
    index = child_index()
    return f"main{os.getpid()}" if index is None else f"slot{index}"


class WorkerMetrics(MetricFamilies):
    """The metrics of the worker, with a bound on the number of series that model versions make."""

    def __init__(self) -> None:
        super().__init__()
        for lane in Lane:
            self.queue_wait_seconds.labels(lane.value)
        self._models: dict[_Version, ModelMetrics] = {}
        self._n_series = 0
        self._loaded: set[_Version] = set()
        self._load_seconds: dict[_Version, float] = {}
        self._model_label, self._trial_label = names.CappedLabel(), names.CappedLabel(TRIALS_MAX)
        self._lost_label = names.CappedLabel()
        self._lock = threading.Lock()

    def model(self, manifest: Manifest) -> ModelMetrics:
        """Return the metrics of a version."""
        key = (manifest.name, manifest.version)
        # Two objects of one series would each keep a sum of their own, and overwrite the other's.
        with self._lock:
            if key not in self._models:
                with harmless():
                    self._models[key] = self._make_model(manifest)
            if key not in self._models:
                # Its own series can't be made.
                self._models[key] = ModelMetrics(self, manifest, None)
            return self._models[key]

    def _make_model(self, manifest: Manifest) -> ModelMetrics:
        """Make the series that fit below SERIES_MAX: all of a version, all but its features', or those of `other`."""
        room = SERIES_MAX - self._n_series
        choices: Sequence[list[Feature]] = (manifest.features[:FEATURES_MAX], [])
        features = next((choice for choice in choices if n_series(manifest, choice) <= room), None)
        if features is not None:
            self._n_series += n_series(manifest, features)
        if not features:
            logger.warning(
                "%s %s: %s, since this worker has made %d series; restart it to drop those of old versions",
                manifest.name,
                manifest.version,
                "counted as `other`" if features is None else "inputs not counted",
                self._n_series,
            )
        return ModelMetrics(self, manifest, features)

    @harmless()
    def mark_loaded(self, manifests: Iterable[Manifest]) -> None:
        """Set the gauges of all versions: these are in the memory of this process now, and no others."""
        now = {(manifest.name, manifest.version): manifest for manifest in manifests}
        for key in now.keys() - self._loaded:
            self.model(now[key]).mark_loaded(time.time(), self._load_seconds.pop(key, None))
        for key in self._loaded - now.keys():
            self._models[key].mark_dropped()
        self._loaded = set(now)

    @harmless()
    def count_load(self, manifest: Manifest | None, seconds: float | None) -> None:
        """Count a load of a version.

        Args:
            manifest: The version; None if the model store does not have it.
            seconds: The time that the load took; None if the version was refused.
        """
        name = names.UNKNOWN_MODEL if manifest is None else self._model_label(manifest.name)
        outcome: Literal["ok", "refused"] = "refused" if seconds is None else "ok"
        self.model_loads.labels(name, outcome).inc()
        if manifest is not None and seconds is not None:
            self._load_seconds[manifest.name, manifest.version] = seconds

    @harmless()
    def count_lost(self, model: str, version: str, code: str, rows: int) -> None:
        """Count the rows of a batch that is lost, in the main process.

        The child that had it made the series of the version. Here no manifest is read: while the model store does not
        answer, this process would serve nobody.
        """
        if self._lost_label(f"{model} {version}") == names.OTHER:
            model, version = names.OTHER, names.OTHER
        self.errors.labels(model, version, code).inc(rows)
        self.predictions.labels(model, version, "error").inc(rows)

    @harmless()
    def count_jobs(self, model: str, jobs: Iterable[tuple[float, float | None]]) -> None:
        """Count the durations of jobs of a model.

        Args:
            model: The name of the model.
            jobs: When each job was accepted and when it ended, None if another process ended it.
        """
        seconds = self.job_seconds.labels(self._model_label(model))
        for accepted_at, ended_at in jobs:
            if ended_at is not None:
                seconds.observe(_plausible(ended_at - accepted_at))

    @harmless()
    def count_waits(self, lane: Lane, seconds: Iterable[float]) -> None:
        """Count the times of calls or jobs from acceptance to the start of their batch."""
        waits = self.queue_wait_seconds.labels(lane.value)
        for each in seconds:
            waits.observe(_plausible(each))

    def shadow_counts(self, model: str, version: str, shadow: str) -> ShadowCounts:
        """Return the counters that compare a version on trial (`shadow`) with the version that answers."""
        labels = [model, version, shadow]
        if self._trial_label(" ".join(labels)) == names.OTHER:
            labels = [names.OTHER] * len(labels)
        return ShadowCounts(*(self.shadow_rows.labels(*labels, word) for word in ShadowCounts._fields))


def _plausible(seconds: float) -> float:
    return min(max(0.0, seconds), WAIT_MAX_SECONDS)
