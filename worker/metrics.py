"""The worker's metrics, counted in the pool children and added up when the main process is scraped.

Files are named by pool slot instead of process id, so that children that come and go leave no more files behind
than there are slots. `PROMETHEUS_MULTIPROC_DIR` must have been set before Python started.
"""

import os
from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

import numpy as np
from billiard.process import current_process
from numpy.typing import NDArray
from prometheus_client import Counter, Gauge, Histogram, multiprocess, values

from shared import metrics as names
from shared.contract import ErrorCode, Lane, Row
from shared.manifest import Feature, Manifest


def slot() -> str:
    """The name of this process in the metrics folder; no underscore, since file names are split there."""
    # billiard gives an index to a new child only after the old one with that index was joined.
    index = getattr(current_process(), "index", None)
    return f"main{os.getpid()}" if index is None else f"slot{index}"


def name_files_by_slot() -> None:
    """Call before the first metric is made."""
    values.ValueClass = values.MultiProcessValue(slot)  # type: ignore[no-untyped-call]


def forget_predecessor() -> None:
    """Drop the live gauges of the child that had this slot before; it may have been killed in mid-batch."""
    multiprocess.mark_process_dead(slot())  # type: ignore[no-untyped-call]


class BulkHistogram(Histogram):
    """A histogram that takes many observations at once; `observe` costs a Python loop per value."""

    def observe_many(self, values: NDArray[np.float64]) -> None:
        """Add n finite observations, shape (n,)."""
        buckets, counts = np.unique(np.searchsorted(self._upper_bounds, values), return_counts=True)
        for bucket, count in zip(buckets.tolist(), counts.tolist(), strict=True):
            self._buckets[bucket].inc(count)
        self._sum.inc(float(values.sum()))


class ModelMetrics:
    """The metrics of one model version, all their label sets made at once, so that a first event is a step from 0."""

    def __init__(self, parent: "WorkerMetrics", manifest: Manifest) -> None:
        labels = (manifest.name, manifest.version)
        self._parent = parent
        self._manifest = manifest
        self.predicted = parent.predictions.labels(*labels, "ok")
        self.failed = parent.predictions.labels(*labels, "error")
        self.compute_seconds = parent.compute_seconds.labels(*labels)
        self.batch_rows = parent.batch_rows.labels(manifest.name)
        self._errors = {code.value: parent.errors.labels(*labels, code.value) for code in ErrorCode}
        self._features = [_FeatureMetrics(parent, labels, feature) for feature in manifest.features]
        self._outputs = [parent.outputs.labels(*labels, output) for output in manifest.outputs[0].reference.bins]
        for output, ratio in zip(manifest.outputs[0].reference.bins, manifest.outputs[0].reference.ratios, strict=True):
            parent.output_reference.labels(*labels, output).set(ratio)
        parent.model_info.labels(
            *labels, manifest.estimator, manifest.libraries.get("scikit-learn", ""), manifest.artifact.sha256[:8]
        ).set(1)
        self._output_at = {str(output): i for i, output in enumerate(manifest.outputs[0].reference.bins)}

    def loaded(self, at_seconds: float) -> None:
        """The version was loaded into this process."""
        self._parent.model_loaded.labels(self._manifest.name, self._manifest.version).set(at_seconds)

    def count_error(self, code: str, rows: int) -> None:
        """Rows without a prediction."""
        self._errors[code].inc(rows)
        self.failed.inc(rows)

    def count_inputs(self, rows: list[Row]) -> None:
        """What the model saw."""
        array = np.asarray(rows, dtype=np.float64)
        for column, metrics in zip(array.T, self._features, strict=True):
            metrics.count(column)

    def count_outputs(self, predictions: list[Any]) -> None:
        """What the model said; None for a row that failed."""
        edges = self._manifest.outputs[0].reference.edges
        counts: dict[int, int] = {}
        for prediction in predictions:
            if prediction is not None:
                at = self._output_at.get(str(prediction)) if edges is None else bisect_left(edges, prediction)
                if at is not None:
                    counts[at] = counts.get(at, 0) + 1
        for at, count in counts.items():
            self._outputs[at].inc(count)
        self.predicted.inc(sum(prediction is not None for prediction in predictions))


class _FeatureMetrics:
    """Histogram and drift bins of one feature."""

    def __init__(self, parent: "WorkerMetrics", labels: tuple[str, str], feature: Feature) -> None:
        self._edges = feature.reference.edges or []
        self._bins = [parent.feature_bins.labels(*labels, feature.name, bin_) for bin_ in feature.reference.bins]
        # A histogram has one list of bounds, and each feature needs its own: so one histogram per feature, all under
        # one name, added up by name when they are scraped.
        self._values = BulkHistogram(
            f"{names.PREFIX}feature_value",
            "Values of input features, in their own units.",
            ["model", "version", "feature"],
            buckets=feature.histogram_edges or (),
            registry=None,
        ).labels(*labels, feature.name)
        for bin_, ratio in zip(feature.reference.bins, feature.reference.ratios, strict=True):
            parent.feature_reference.labels(*labels, feature.name, bin_).set(ratio)

    def count(self, column: NDArray[np.float64]) -> None:
        self._values.observe_many(column)
        bins, counts = np.unique(np.searchsorted(self._edges, column, side="left"), return_counts=True)
        for bin_, count in zip(bins.tolist(), counts.tolist(), strict=True):
            self._bins[bin_].inc(count)


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
        self.outputs = counter("output_total", "Predictions by class or bin.", [*model, "output"])
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
        self.batches_in_progress = gauge("batches_in_progress", "Batches being computed.", [], "livesum")
        # Every child and every replica says the same of these.
        self.feature_reference = gauge(
            "feature_reference_ratio", "Share of the training rows in a bin.", [*model, "feature", "bin"], "max"
        )
        self.output_reference = gauge(
            "output_reference_ratio", "Share of the training rows by output.", [*model, "output"], "max"
        )
        self.model_info = gauge(
            "model_info", "A loaded model version.", [*model, "estimator", "scikit_learn", "digest"], "max"
        )
        self.model_loaded = gauge(
            "model_loaded_timestamp_seconds", "When a version was last loaded, as seconds since 1970.", model, "max"
        )
        for lane in Lane:
            self.queue_wait_seconds.labels(lane.value)
        self._models: dict[tuple[str, str], ModelMetrics] = {}

    def model(self, manifest: Manifest) -> ModelMetrics:
        """The metrics of a version."""
        key = (manifest.name, manifest.version)
        if key not in self._models:
            self._models[key] = ModelMetrics(self, manifest)
        return self._models[key]
