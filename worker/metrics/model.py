"""The metrics of one model version: rows, time, errors, and the distributions of inputs and outputs over the bins."""

import json
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Gauge

from headrace.models.manifest import Feature, Manifest, Output
from shared.observability import metric_names as names
from shared.queue.contract import ErrorCode
from worker.metrics.bins import BINS_MAX, NamedBins, NumberBins, label_of, make_bins
from worker.metrics.families import MetricFamilies, feature_values
from worker.model.rows import Rows

logger = logging.getLogger(__name__)

FEATURES_MAX = 32
"""Features of a model that are counted, the first ones; each has some thirty series per pool slot."""

SERIES_MAX = 20_000
"""Series of model versions that a process makes in its life, about: 21 versions of 20 features.

They take 6 MB in its files, and 20 MB at most. A series can't be taken back, and callers can make the worker load any
version of the store.
"""

SERIES_BYTES = 500
"""Bytes of the names of a feature or an output and its bin that a series has. One of more counts as several."""

VALUE_MAX = 1e290
"""Magnitude up to which a value counts in the sum of its feature, which 10^18 rows then can't make infinite."""

_HISTOGRAMS = (
    names.COMPUTE_BUCKETS_SECONDS,
    names.CONFIDENCE_BUCKETS,
    names.BATCH_ROWS_BUCKETS,
    names.QUEUE_WAIT_BUCKETS_SECONDS,
)
"""Buckets of the histograms that every version has."""


class ModelMetrics:
    """The metrics of one model version. All series are made at once, so that a first event is a step from 0."""

    def __init__(self, families: MetricFamilies, manifest: Manifest, features: Sequence[Feature] | None) -> None:
        """Make the series of a version.

        Args:
            families: The families that the series belong to.
            manifest: The version.
            features: The features whose values are counted, the first ones of the version. With None the version has
                no series of its own: it is counted together with others, as `other`.
        """
        has_own_series = features is not None
        labels = (manifest.name, manifest.version) if has_own_series else (names.OTHER, names.OTHER)
        counted = features or ()
        self._families = families
        self._manifest = manifest
        self._labels = labels
        self._predicted = families.predictions.labels(*labels, "ok")
        self._failed = families.predictions.labels(*labels, "error")
        self.compute_seconds = families.compute_seconds.labels(*labels)
        self.batch_rows = families.batch_rows.labels(labels[0])
        self._confidence = families.confidence.labels(*labels)
        self._errors = {code.value: families.errors.labels(*labels, code.value) for code in ErrorCode}
        self._features = [_FeatureMetrics(families, labels, feature) for feature in counted]
        self._has_uncounted_features = len(manifest.features) > len(counted)
        self._only_numbers = all(feature.type == "number" for feature in counted)
        self._outputs: list[NumberBins | NamedBins] = []
        self._info: Gauge | None = None
        if has_own_series:
            self._make_own_series()

    def _make_own_series(self) -> None:
        manifest, families, labels = self._manifest, self._families, self._labels
        for output in manifest.outputs:
            target = (output.name, f"{output.name}=") if len(manifest.outputs) > 1 else ("", "")
            self._outputs.append(make_bins(output.reference, families.of_outputs, (*labels, *target), False))
        families.job_seconds.labels(manifest.name)
        for outcome in ("ok", "refused"):
            families.model_loads.labels(manifest.name, outcome)
        families.training_rows.labels(*labels).set(manifest.training_rows or 0)
        self._info = families.model_info.labels(
            *labels,
            label_of(manifest.estimator),
            label_of(manifest.libraries.get("scikit-learn", "")),
            manifest.artifact.sha256[:8],
        )

    def mark_loaded(self, at_seconds: float, load_seconds: float | None = None) -> None:
        """Set the gauges of a version that is in the memory of this process from now on."""
        if self._info is None:
            return
        self._info.set(1)
        self._families.model_loaded.labels(*self._labels).set(at_seconds)
        if load_seconds is not None:
            self._families.model_load_seconds.labels(*self._labels).set(load_seconds)

    def mark_dropped(self) -> None:
        """Set the gauge of a version that is no longer in the memory of this process."""
        if self._info is not None:
            self._info.set(0)

    def count_error(self, code: str, rows: int) -> None:
        """Count rows without a prediction."""
        self._errors[code].inc(rows)
        self._failed.inc(rows)

    def count_inputs(self, rows: Rows) -> None:
        """Count the values of the features; rows of a wrong length or type are logged and not counted.

        The gateway never sends rows of that kind.
        """
        if not self._features:
            return
        try:
            for metrics, column in zip(self._features, self._columns(rows), strict=True):
                metrics.count(column)
        except (TypeError, ValueError) as error:
            # The message of the error would quote a value.
            reason = type(error).__name__
            logger.warning("%s %s: inputs not counted: %s", self._manifest.name, self._manifest.version, reason)

    def _columns(self, rows: Rows) -> list[Any]:
        """Return the values of each counted feature."""
        n_features = len(self._features)
        counted = rows
        if isinstance(rows, np.ndarray):
            counted = rows[:, :n_features]
        elif self._has_uncounted_features:
            counted = [row[:n_features] for row in rows]
        if self._only_numbers:
            return list(np.asarray(counted, dtype=np.float64).T)
        return list(zip(*counted, strict=True))

    def count_outputs(self, predictions: list[Any]) -> None:
        """Count predictions, None for a row that failed."""
        predicted = [prediction for prediction in predictions if prediction is not None]
        if self._outputs:
            columns: Iterable[Any] = [predicted] if len(self._outputs) == 1 else zip(*predicted, strict=True)
            # Without a single prediction there are no columns.
            for bins, column in zip(self._outputs, columns, strict=False):
                bins.count(column)
        self._predicted.inc(len(predicted))

    def count_confidence(self, greatest: NDArray[np.float64]) -> None:
        """Count the greatest probability of each row that has probabilities, shape (n,)."""
        if len(greatest):
            self._confidence.observe_many(greatest)


def n_series(manifest: Manifest, features: Sequence[Feature]) -> int:
    """Return about how many series a version has, of which these features are counted; long ones count as several."""
    fixed = sum(map(len, _HISTOGRAMS)) + 26
    described: list[Output | Feature] = [*manifest.outputs, *features]
    # Each bin has a count, a share of the training rows, and a range.
    bins = 3 * sum(_weight(each.name, bin_) for each in described for bin_ in each.reference.bins[:BINS_MAX])
    return fixed + bins + sum((len(each.histogram_edges or ()) + 2) * _weight(each.name) for each in features)


def _weight(name: str, bin_: str = "") -> int:
    """Return for how many series one counts that has a name up to three times in its labels, and a bin up to twice."""
    # In the files, characters beyond ASCII have up to twelve bytes.
    return 1 + len(json.dumps([*[name] * 3, *[label_of(bin_)] * 2])) // SERIES_BYTES


class _FeatureMetrics:
    """The bins of one feature, and the histogram of its values if they are numbers."""

    def __init__(self, families: MetricFamilies, labels: tuple[str, str], feature: Feature) -> None:
        self._bins = make_bins(feature.reference, families.of_features, (*labels, feature.name, ""), feature.nullable)
        self._values = feature_values(labels, feature) if feature.type == "number" else None

    def count(self, column: Any) -> None:
        """Count n values of this feature, None or NaN where they are missing."""
        if self._values is not None:
            column = np.asarray(column, dtype=np.float64)
            values = column[np.isfinite(column)]
            self._values.observe_many(np.clip(values, -VALUE_MAX, VALUE_MAX))
        self._bins.count(column)
