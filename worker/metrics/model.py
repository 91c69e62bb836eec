"""What is counted of one model version: rows, time, errors, and how inputs and outputs spread over the bins."""

import logging
from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter, Gauge, Histogram

from headrace.models.manifest import MISSING_BIN, OTHER_BIN, Feature, Manifest, Reference
from shared.observability import metric_names as names
from shared.queue.contract import ErrorCode
from worker.model.rows import Rows

if TYPE_CHECKING:
    from worker.metrics.worker import WorkerMetrics

logger = logging.getLogger(__name__)

FEATURES_MAX = 32
"""Features of a model that are counted, the first ones; each has some thirty series per pool slot."""

BINS_MAX = 21
"""Bins of a feature or an output."""

_HISTOGRAMS = (
    names.COMPUTE_BUCKETS_SECONDS,
    names.CONFIDENCE_BUCKETS,
    names.BATCH_ROWS_BUCKETS,
    names.QUEUE_WAIT_BUCKETS_SECONDS,
)
"""Buckets that every version has."""

SERIES_MAX = 20_000
"""Series of model versions that a process makes in its life, about: 25 versions of 20 features, 6 MB in its files.

None can be taken back, and callers may have any version of the store loaded.
"""


class BulkHistogram(Histogram):
    """A histogram that takes many observations at once; `observe` costs a Python loop per value."""

    def observe_many(self, values: NDArray[np.float64]) -> None:
        """Add n finite observations, shape (n,)."""
        counts = np.bincount(np.searchsorted(self._upper_bounds, values))
        for bucket, count in enumerate(counts.tolist()):
            if count:
                self._buckets[bucket].inc(count)
        self._sum.inc(float(values.sum()))


class ModelMetrics:
    """The metrics of one model version, all their label sets made at once, so that a first event is a step from 0."""

    def __init__(self, parent: "WorkerMetrics", manifest: Manifest, features: Sequence[Feature] | None) -> None:
        """`features` are those whose values are counted; without a list the version has no series of its own."""
        named = features is not None
        labels = (manifest.name, manifest.version) if named else (names.OTHER, names.OTHER)
        self._parent = parent
        self._manifest = manifest
        self._labels = labels
        self.predicted = parent.predictions.labels(*labels, "ok")
        self.failed = parent.predictions.labels(*labels, "error")
        self.compute_seconds = parent.compute_seconds.labels(*labels)
        self._confidence = parent.confidence.labels(*labels)
        self.batch_rows = parent.batch_rows.labels(labels[0])
        self._errors = {code.value: parent.errors.labels(*labels, code.value) for code in ErrorCode}
        counted = features or ()
        self._features = [_FeatureMetrics(parent, labels, feature) for feature in counted]
        self._is_wide = len(manifest.features) > len(counted)
        self._only_numbers = all(feature.type == "number" for feature in counted)
        self._outputs: list[_CutBins | _NamedBins] = []
        self._info: Gauge | None = None
        if not named:
            return
        for output in manifest.outputs:
            label = (*labels, output.name, f"{output.name}=") if len(manifest.outputs) > 1 else (*labels, "", "")
            self._outputs.append(_bins(output.reference, parent.outputs, parent.output_reference, label, False))
        parent.job_seconds.labels(manifest.name)
        for outcome in ("ok", "refused"):
            parent.model_loads.labels(manifest.name, outcome)
        parent.training_rows.labels(*labels).set(manifest.training_rows)
        self._info = parent.model_info.labels(
            *labels, manifest.estimator, manifest.libraries.get("scikit-learn", ""), manifest.artifact.sha256[:8]
        )

    def loaded(self, at_seconds: float, load_seconds: float | None = None) -> None:
        """The version is in the memory of this process."""
        if self._info is None:
            return
        self._info.set(1)
        self._parent.model_loaded.labels(*self._labels).set(at_seconds)
        if load_seconds is not None:
            self._parent.model_load_seconds.labels(*self._labels).set(load_seconds)

    def dropped(self) -> None:
        """The version is no longer in the memory of this process."""
        if self._info is not None:
            self._info.set(0)

    def count_error(self, code: str, rows: int) -> None:
        """Rows without a prediction."""
        self._errors[code].inc(rows)
        self.failed.inc(rows)

    def count_inputs(self, rows: Rows) -> None:
        """What the model saw; rows that are none, which the gateway never sends, are logged and not counted."""
        if not self._features:
            return
        try:
            counted, n_features = rows, len(self._features)
            if isinstance(rows, np.ndarray):
                counted = rows[:, :n_features]
            elif self._is_wide:
                counted = [row[:n_features] for row in rows]
            columns: Iterable[Any] = (
                np.asarray(counted, dtype=np.float64).T if self._only_numbers else zip(*counted, strict=True)
            )
            for metrics, column in zip(self._features, list(columns), strict=True):
                metrics.count(column)
        except (TypeError, ValueError) as error:
            reason = type(error).__name__  # its message quotes the value
            logger.warning("%s %s: inputs not counted: %s", self._manifest.name, self._manifest.version, reason)

    def count_outputs(self, predictions: list[Any]) -> None:
        """What the model said; None for a row that failed."""
        said = [prediction for prediction in predictions if prediction is not None]
        if self._outputs:
            columns = [said] if len(self._outputs) == 1 else zip(*said, strict=True)
            for bins, column in zip(self._outputs, columns, strict=False):
                bins.count(column)
        self.predicted.inc(len(said))

    def count_confidence(self, greatest: NDArray[np.float64]) -> None:
        """How sure the model was: the greatest probability of each row that has any, shape (n,)."""
        if len(greatest):
            self._confidence.observe_many(greatest)


def n_series(manifest: Manifest, features: Sequence[Feature]) -> int:
    """How many series a version has of which these features are counted, about."""
    fixed = sum(map(len, _HISTOGRAMS)) + 26
    references = [output.reference for output in manifest.outputs] + [feature.reference for feature in features]
    # Each bin has a count and a share of the training rows.
    return (
        fixed
        + 2 * sum(min(len(each.bins), BINS_MAX) for each in references)
        + sum(len(feature.histogram_edges or ()) + 2 for feature in features)
    )


class _FeatureMetrics:
    """Histogram and drift bins of one feature."""

    def __init__(self, parent: "WorkerMetrics", labels: tuple[str, str], feature: Feature) -> None:
        self._bins = _bins(
            feature.reference,
            parent.feature_bins,
            parent.feature_reference,
            (*labels, feature.name, ""),
            feature.nullable,
        )
        self._values = None
        if feature.type == "number":
            # A histogram has one list of bounds, and each feature needs its own: so one histogram per feature, all
            # under one name, added up by name when they are scraped.
            self._values = BulkHistogram(
                f"{names.PREFIX}feature_value",
                "Values of input features, in their own units.",
                ["model", "version", "feature"],
                buckets=feature.histogram_edges or (),
                registry=None,
            ).labels(*labels, feature.name)

    def count(self, column: Any) -> None:
        """Count n values of this feature, None or NaN where they are missing."""
        if self._values is not None:
            column = np.asarray(column, dtype=np.float64)
            self._values.observe_many(column[np.isfinite(column)])
        self._bins.count(column)


class _CutBins:
    """Counts numbers between cut points, NaN as missing."""

    def __init__(self, edges: list[float], counters: list[Any], missing: Any) -> None:
        self._edges = np.asarray(edges, dtype=np.float64)
        self._counters = counters
        self._missing = missing

    def count(self, values: Sequence[float] | NDArray[np.float64]) -> None:
        numbers = np.asarray(values, dtype=np.float64)
        gaps = np.isnan(numbers)
        n_missing = int(np.count_nonzero(gaps))
        if n_missing:
            numbers = numbers[~gaps]
            if self._missing is not None:
                self._missing.inc(n_missing)
        # As the reference was made: bin k holds edges[k-1] < value <= edges[k].
        counts = np.bincount(np.searchsorted(self._edges, numbers, side="left"))
        for counter, count in zip(self._counters, counts.tolist(), strict=False):
            if count:
                counter.inc(count)


class _NamedBins:
    """Counts texts, booleans or classes by name, None as missing, and the rest as other."""

    def __init__(self, counters: dict[str, Any], missing: Any, other: Any) -> None:
        self._counters = counters
        self._missing = missing
        self._other = other

    def count(self, values: Iterable[Any]) -> None:
        for value, count in Tally(values).items():
            counter = self._missing if value is None else self._counters.get(str(value), self._other)
            if counter is not None:
                counter.inc(count)


def _bins(
    reference: Reference, counter: Counter, gauge: Gauge, label: tuple[str, ...], nullable: bool
) -> _CutBins | _NamedBins:
    """The counters of a reference's bins, its ratios set; a bin's name is appended to the last of `label`."""

    def labels(bin_: str) -> tuple[str, ...]:
        return (*label[:-1], label[-1] + bin_)

    shown = _bounded(reference, nullable)
    for bin_, ratio in shown.items():
        gauge.labels(*labels(bin_)).set(ratio)
    counters = {bin_: counter.labels(*labels(bin_)) for bin_ in shown}
    missing = counters.pop(MISSING_BIN, None) if nullable else None
    if reference.edges is not None:
        return _CutBins(reference.edges, list(counters.values()), missing)
    return _NamedBins(counters, missing, counters.pop(OTHER_BIN, None))


def _bounded(reference: Reference, nullable: bool) -> dict[str, float]:
    """Bin -> ratio of at most BINS_MAX bins: beyond them the last named ones become other; too many cuts, no bins."""
    ratios: dict[str, float] = dict(zip(reference.bins, reference.ratios, strict=True))
    if len(ratios) <= BINS_MAX:
        return ratios
    if reference.edges is not None:
        return {}
    missing = {MISSING_BIN: ratios.pop(MISSING_BIN)} if nullable else {}
    other = ratios.pop(OTHER_BIN, 0.0)
    kept = BINS_MAX - 1 - len(missing)
    shown = dict(list(ratios.items())[:kept])
    return {**shown, OTHER_BIN: other + sum(list(ratios.values())[kept:]), **missing}
