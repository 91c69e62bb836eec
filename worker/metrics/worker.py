"""The worker's metrics, counted in the pool children and added up when the main process is scraped.

Their files are named by pool slot (`shared/observability/multiprocess.py`).
"""

import logging
import os
import threading
import time
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from billiard.process import current_process
from prometheus_client import Counter, Gauge, Histogram

from headrace.models.manifest import Manifest
from shared.observability import metric_names as names
from shared.queue.contract import Lane
from worker.metrics.model import FEATURES_MAX, SERIES_MAX, BulkHistogram, ModelMetrics, n_series

logger = logging.getLogger(__name__)

TRIALS_MAX = 100
"""Pairs of versions of a trial that are told apart in labels."""


_Version = tuple[str, str]


class ShadowCounts(NamedTuple):
    """Rows of a version on trial, by agreement."""

    same: Counter
    different: Counter
    failed: Counter


def slot() -> str:
    """The name of this process in the metrics folder."""
    # billiard gives an index to a new child only after the old one with that index was joined.
    index = getattr(current_process(), "index", None)
    return f"main{os.getpid()}" if index is None else f"slot{index}"


class WorkerMetrics:
    """All metrics of the worker. Gauges say how the children's values become one: never one series per process."""

    def __init__(self) -> None:
        def counter(name: str, text: str, labels: Iterable[str]) -> Counter:
            return Counter(f"{names.PREFIX}{name}", text, labels, registry=None)

        def gauge(name: str, text: str, labels: Iterable[str], mode: Any) -> Gauge:
            return Gauge(f"{names.PREFIX}{name}", text, labels, multiprocess_mode=mode, registry=None)

        def histogram(name: str, text: str, labels: Iterable[str], buckets: Iterable[float]) -> Histogram:
            return Histogram(f"{names.PREFIX}{name}", text, labels, buckets=tuple(buckets), registry=None)

        model = ["model", "version"]
        self.predictions = counter("predictions_total", "Rows predicted, or failed.", [*model, "outcome"])
        self.errors = counter("errors_total", "Rows without a prediction, by reason.", [*model, "code"])
        # `target` names one of several outputs, each of which has a distribution; it is empty if there is only one.
        self.outputs = counter("output_total", "Predictions by class or bin.", [*model, "target", "output"])
        self.feature_bins = counter(
            "feature_bin_total", "Values of input features by bin of the training data.", [*model, "feature", "bin"]
        )
        self.compute_seconds = histogram(
            "compute_seconds", "Time of a batch inside the estimator.", model, names.COMPUTE_BUCKETS_SECONDS
        )
        self.queue_wait_seconds = histogram(
            "queue_wait_seconds",
            "Time of a call or job from acceptance to the start of its batch.",
            ["lane"],
            names.QUEUE_WAIT_BUCKETS_SECONDS,
        )
        self.job_seconds = histogram(
            "job_duration_seconds",
            "Time of a job from acceptance to the outcome that a worker gave it.",
            ["model"],
            names.QUEUE_WAIT_BUCKETS_SECONDS,
        )
        self.batch_rows = histogram("batch_rows", "Rows per batch.", ["model"], names.BATCH_ROWS_BUCKETS)
        self.confidence = BulkHistogram(
            f"{names.PREFIX}prediction_confidence",
            "Greatest probability of a row.",
            model,
            buckets=names.CONFIDENCE_BUCKETS,
            registry=None,
        )
        self._shadow_rows = counter(
            "shadow_rows_total",
            "Rows that a version on trial was asked too, by whether it agreed with the one that answered.",
            ["model", "version", "shadow", "agreement"],
        )
        self.batches_in_progress = gauge("batches_in_progress", "Batches being computed.", [], "livesum")
        # Every child and every replica says the same of these.
        self.feature_reference = gauge(
            "feature_reference_ratio", "Share of the training rows in a bin.", [*model, "feature", "bin"], "max"
        )
        self.output_reference = gauge(
            "output_reference_ratio", "Share of the training rows by output.", [*model, "target", "output"], "max"
        )
        self.training_rows = gauge("model_training_rows", "Rows that a version was trained on.", model, "max")
        self.model_info = gauge(
            "model_info", "A model version in memory.", [*model, "estimator", "scikit_learn", "digest"], "livemax"
        )
        self.model_loaded = gauge(
            "model_loaded_timestamp_seconds", "When a version was last loaded, as seconds since 1970.", model, "max"
        )
        self.model_load_seconds = gauge(
            "model_load_seconds", "Time that the last load of a version took, until its samples agreed.", model, "max"
        )
        self.model_loads = counter(
            "model_loads_total", "Loads of model versions into pool children.", ["model", "outcome"]
        )
        self.children_started = counter("worker_children_started_total", "Pool children that were started.", [])
        for lane in Lane:
            self.queue_wait_seconds.labels(lane.value)
        self._models: dict[_Version, ModelMetrics] = {}
        self._n_series = 0
        self._loaded: set[_Version] = set()
        self._load_seconds: dict[_Version, float] = {}
        self._model_label, self._trial_label = names.CappedLabel(), names.CappedLabel(TRIALS_MAX)
        self._lock = threading.Lock()

    def model(self, manifest: Manifest) -> ModelMetrics:
        """The metrics of a version."""
        key = (manifest.name, manifest.version)
        # Two objects for one series would each keep a sum of their own, and overwrite the other's.
        with self._lock:
            if key not in self._models:
                self._models[key] = self._make(manifest)
            return self._models[key]

    def _make(self, manifest: Manifest) -> ModelMetrics:
        """What still fits below the cap: a version in full, or without its features, or in one with all others."""
        room = SERIES_MAX - self._n_series
        for features in (manifest.features[:FEATURES_MAX], []):
            needed = n_series(manifest, features)
            if needed <= room:
                self._n_series += needed
                break
        else:
            features = None
        if not features:
            logger.warning(
                "%s %s: %s, since this worker has made %d series; restart it to drop those of old versions",
                manifest.name,
                manifest.version,
                "counted as `other`" if features is None else "inputs not counted",
                self._n_series,
            )
        return ModelMetrics(self, manifest, features)

    def loaded(self, manifests: Iterable[Manifest]) -> None:
        """These versions are in the memory of this process now, and no others."""
        now = {(manifest.name, manifest.version): manifest for manifest in manifests}
        for key in now.keys() - self._loaded:
            self.model(now[key]).loaded(time.time(), self._load_seconds.pop(key, None))
        for key in self._loaded - now.keys():
            self._models[key].dropped()
        self._loaded = set(now)

    def shadow(self, model: str, version: str, shadow: str) -> ShadowCounts:
        """How a version on trial compares with the one that answers."""
        labels = [model, version, shadow]
        if self._trial_label(" ".join(labels)) == names.OTHER:
            labels = [names.OTHER] * len(labels)
        return ShadowCounts(*(self._shadow_rows.labels(*labels, word) for word in ShadowCounts._fields))

    def count_jobs(self, model: str, jobs: Iterable[tuple[float, float | None]]) -> None:
        """Jobs accepted and ended at these times, None if another has ended them."""
        seconds = self.job_seconds.labels(self._model_label(model))
        for accepted_at, ended_at in jobs:
            if ended_at is not None:
                seconds.observe(max(0.0, ended_at - accepted_at))

    def count_load(self, manifest: Manifest | None, seconds: float | None) -> None:
        """A version was loaded in so many seconds, or refused (None); without a manifest the store does not have it."""
        name = names.UNKNOWN_MODEL if manifest is None else self._model_label(manifest.name)
        outcome: Literal["ok", "refused"] = "refused" if seconds is None else "ok"
        self.model_loads.labels(name, outcome).inc()
        if manifest is not None and seconds is not None:
            self._load_seconds[manifest.name, manifest.version] = seconds
