"""The worker's metrics, counted in the pool children and added up when the main process is scraped.

Their files are named by pool slot (`shared/metric_files.py`).
"""

import os
import threading
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from billiard.process import current_process
from prometheus_client import Counter, Gauge, Histogram

from shared import metrics as names
from shared.contract import Lane
from shared.manifest import Manifest
from worker.model_metrics import BulkHistogram, ModelMetrics

UNKNOWN_MODEL = "unknown"
"""Stands in labels for names that the model store does not have: they come from outside and are endless."""


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
            "model_info", "A loaded model version.", [*model, "estimator", "scikit_learn", "digest"], "max"
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
        for lane in Lane:
            self.queue_wait_seconds.labels(lane.value)
        self._models: dict[tuple[str, str], ModelMetrics] = {}
        self._lock = threading.Lock()

    def model(self, manifest: Manifest) -> ModelMetrics:
        """The metrics of a version."""
        key = (manifest.name, manifest.version)
        # Two objects for one series would each keep a sum of their own, and overwrite the other's.
        with self._lock:
            if key not in self._models:
                self._models[key] = ModelMetrics(self, manifest)
            return self._models[key]

    def shadow(self, model: str, version: str, shadow: str) -> ShadowCounts:
        """How a version on trial compares with the one that answers."""
        return ShadowCounts(*(self._shadow_rows.labels(model, version, shadow, word) for word in ShadowCounts._fields))

    def count_load(self, manifest: Manifest | None, seconds: float | None) -> None:
        """A version was loaded in so many seconds, or refused (None); without a manifest the store does not have it."""
        name = UNKNOWN_MODEL if manifest is None else manifest.name
        outcome: Literal["ok", "refused"] = "refused" if seconds is None else "ok"
        self.model_loads.labels(name, outcome).inc()
        if manifest is not None and seconds is not None:
            self.model_load_seconds.labels(name, manifest.version).set(seconds)
