"""The metric families of the worker: names, help texts, labels and buckets."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter, Gauge, Histogram

from headrace.models.manifest import Feature
from shared.observability import metric_names as names
from worker.metrics.bins import BinFamilies

MODEL = ["model", "version"]


class BulkHistogram(Histogram):
    """A histogram that takes many observations at once; `observe` costs a Python loop per value."""

    def observe_many(self, values: NDArray[np.float64]) -> None:
        """Add n finite observations, shape (n,)."""
        counts = np.bincount(np.searchsorted(self._upper_bounds, values))
        for bucket, count in enumerate(counts.tolist()):
            if count:
                self._buckets[bucket].inc(count)
        self._sum.inc(float(values.sum()))


class MetricFamilies:
    """All metric families of the worker.

    The mode of a gauge says how the values of the pool children become one: no family has a series per process.
    """

    def __init__(self) -> None:
        self.predictions = _counter("predictions_total", "Rows predicted, or failed.", [*MODEL, "outcome"])
        self.errors = _counter("errors_total", "Rows without a prediction, by reason.", [*MODEL, "code"])
        # `target` names one of several outputs, each of which has a distribution; it is empty if there is only one.
        self.outputs = _counter("output_total", "Predictions by class or bin.", [*MODEL, "target", "output"])
        self.feature_bins = _counter(
            "feature_bin_total", "Values of input features by bin of the training data.", [*MODEL, "feature", "bin"]
        )
        self.compute_seconds = _histogram(
            "compute_seconds", "Time of a batch inside the estimator.", MODEL, names.COMPUTE_BUCKETS_SECONDS
        )
        self.queue_wait_seconds = _histogram(
            "queue_wait_seconds",
            "Time of a call or job from acceptance to the start of its batch.",
            ["lane"],
            names.QUEUE_WAIT_BUCKETS_SECONDS,
        )
        self.job_seconds = _histogram(
            "job_duration_seconds",
            "Time of a job from acceptance to the outcome that a worker gave it.",
            ["model"],
            names.QUEUE_WAIT_BUCKETS_SECONDS,
        )
        self.batch_rows = _histogram("batch_rows", "Rows per batch.", ["model"], names.BATCH_ROWS_BUCKETS)
        self.confidence = BulkHistogram(
            f"{names.PREFIX}prediction_confidence",
            "Greatest probability of a row.",
            MODEL,
            buckets=names.CONFIDENCE_BUCKETS,
            registry=None,
        )
        self.shadow_rows = _counter(
            "shadow_rows_total",
            "Rows that a version on trial was asked too, by whether it agreed with the one that answered.",
            ["model", "version", "shadow", "agreement"],
        )
        self.batches_in_progress = _gauge("batches_in_progress", "Batches being computed.", [], "livesum")
        # Every child and every replica sets the gauges of a version to the same values, so any of them will do.
        self.feature_reference = _gauge(
            "feature_reference_ratio", "Share of the training rows in a bin.", [*MODEL, "feature", "bin"], "max"
        )
        self.output_reference = _gauge(
            "output_reference_ratio", "Share of the training rows by output.", [*MODEL, "target", "output"], "max"
        )
        self.feature_bin_info = _gauge(
            "feature_bin_info", "Range of the values in a bin.", [*MODEL, "feature", "bin", "range"], "max"
        )
        self.output_bin_info = _gauge(
            "output_bin_info",
            "Range of the predictions in a bin.",
            [*MODEL, "target", "output", "range"],
            "max",
        )
        self.of_features = BinFamilies(self.feature_bins, self.feature_reference, self.feature_bin_info)
        self.of_outputs = BinFamilies(self.outputs, self.output_reference, self.output_bin_info)
        self.training_rows = _gauge("model_training_rows", "Rows a version was trained on; 0: unknown.", MODEL, "max")
        self.model_info = _gauge(
            "model_info", "A model version in memory.", [*MODEL, "estimator", "scikit_learn", "digest"], "livemax"
        )
        self.model_loaded = _gauge(
            "model_loaded_timestamp_seconds", "When a version was last loaded, as seconds since 1970.", MODEL, "max"
        )
        self.model_load_seconds = _gauge(
            "model_load_seconds", "Time that the last load of a version took, until its samples agreed.", MODEL, "max"
        )
        self.model_loads = _counter(
            "model_loads_total", "Loads of model versions into pool children.", ["model", "outcome"]
        )
        self.children_started = _counter("worker_children_started_total", "Pool children that were started.", [])


def feature_values(labels: tuple[str, str], feature: Feature) -> BulkHistogram:
    """Make the histogram of the values of one numeric feature.

    A histogram has one list of bounds, and each feature needs its own. So every feature has a histogram, all of them
    under one name; they are added up by that name when they are scraped.
    """
    return BulkHistogram(
        f"{names.PREFIX}feature_value",
        "Values of input features, in their own units.",
        [*MODEL, "feature"],
        buckets=feature.histogram_edges or (),
        registry=None,
    ).labels(*labels, feature.name)


def _counter(name: str, text: str, labels: Iterable[str]) -> Counter:
    return Counter(f"{names.PREFIX}{name}", text, labels, registry=None)


def _gauge(name: str, text: str, labels: Iterable[str], mode: Any) -> Gauge:
    return Gauge(f"{names.PREFIX}{name}", text, labels, multiprocess_mode=mode, registry=None)


def _histogram(name: str, text: str, labels: Iterable[str], buckets: Iterable[float]) -> Histogram:
    return Histogram(f"{names.PREFIX}{name}", text, labels, buckets=tuple(buckets), registry=None)
