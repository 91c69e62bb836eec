"""A predictor: an artifact loaded in memory. The only module that knows scikit-learn and joblib."""

import io
import logging
import time
from dataclasses import dataclass, field
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from shared.contract import ErrorCode, Row
from shared.errors import ArtifactInvalid, PredictionError
from shared.manifest import Manifest
from shared.model_store import ModelStore

logger = logging.getLogger(__name__)

SAMPLE_TOLERANCE = 1e-6
"""Largest difference of a sample's probabilities or number from the manifest's: other machines round differently."""


@dataclass(frozen=True)
class Predictions:
    """What the model says of n rows; plain Python values, ready for JSON.

    `failures` maps the position of a row to its error; the other lists hold None there.
    """

    predictions: list[Any]
    probabilities: list[Any] | None
    compute_seconds: float
    failures: dict[int, PredictionError] = field(default_factory=dict)


class Predictor:
    """One version of a model, ready to predict."""

    def __init__(self, manifest: Manifest, estimator: Any) -> None:
        self.manifest = manifest
        self._estimator = estimator

    @classmethod
    def load(cls, store: ModelStore, name: str, version: str) -> "Predictor":
        """Load a version: digest first, then the artifact, then its samples.

        Raises:
            ModelError: if the version is missing, altered, or does not predict what its manifest says.
        """
        manifest = store.manifest(name, version)
        content = store.artifact(manifest)
        predictor = cls(manifest, joblib.load(io.BytesIO(content)))
        predictor.check_samples()
        return predictor

    def check_samples(self) -> None:
        """Predict the manifest's sample rows; also warms the estimator up.

        Raises:
            ArtifactInvalid: if an answer is not the manifest's.
        """
        samples = self.manifest.samples
        answer = self.predict([sample.row for sample in samples])
        for i, sample in enumerate(samples):
            if i in answer.failures:
                raise ArtifactInvalid(f"{self}: sample {i}: {answer.failures[i].message}")
            if not _same(answer.predictions[i], sample.prediction) or (
                sample.probabilities is not None
                and not (
                    answer.probabilities
                    and np.allclose(answer.probabilities[i], sample.probabilities, rtol=0, atol=SAMPLE_TOLERANCE)
                )
            ):
                raise ArtifactInvalid(f"{self}: sample {i} is not predicted as when it was exported")

    def __str__(self) -> str:
        return f"{self.manifest.name} {self.manifest.version}"

    def predict(self, rows: list[Row]) -> Predictions:
        """Predict n rows in one call of the estimator; if it raises, row by row, so that a bad row fails alone."""
        started = time.perf_counter()
        try:
            predictions, probabilities = self._call(self.array(rows))
        except Exception as error:
            if _is_time_limit(error):
                raise
            logger.warning("%s: %s in a batch of %d rows, now row by row", self, type(error).__name__, len(rows))
            return self._predict_each(rows, started)
        failures = _non_finite(predictions, probabilities)
        return Predictions(
            _plain(predictions, failures),
            None if probabilities is None else _plain(probabilities, failures),
            time.perf_counter() - started,
            failures,
        )

    @staticmethod
    def array(rows: list[Row]) -> NDArray[np.float64]:
        """The rows as the estimator takes them: shape (n rows, n features)."""
        return np.asarray(rows, dtype=np.float64)

    def _call(self, array: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.float64] | None]:
        # predict() is not always the class of the greatest probability (SVC calibrates them apart), so ask for both.
        predictions = self._estimator.predict(array)
        return predictions, self._estimator.predict_proba(array) if self.manifest.probabilities else None

    def _predict_each(self, rows: list[Row], started: float) -> Predictions:
        predictions: list[Any] = []
        probabilities: list[Any] = []
        failures: dict[int, PredictionError] = {}
        for i, row in enumerate(rows):
            try:
                prediction, probability = self._call(self.array([row]))
            except Exception as error:
                if _is_time_limit(error):
                    raise
                # The message of a foreign exception may hold values of the row: it goes to the log only.
                logger.warning("%s: row failed", self, exc_info=True)
                failures[i] = PredictionError(
                    ErrorCode.PREDICTION_FAILED.value, f"the model raised {type(error).__name__}", [i]
                )
                predictions.append(None)
                probabilities.append(None)
                continue
            bad = _non_finite(prediction, probability)
            if bad:
                failures[i] = PredictionError(bad[0].code, bad[0].message, [i])
            predictions += _plain(prediction, bad)
            probabilities += [None] if probability is None else _plain(probability, bad)
        return Predictions(
            predictions,
            probabilities if self.manifest.probabilities else None,
            time.perf_counter() - started,
            failures,
        )


class PredictorCache:
    """The predictors of this process, by name and version."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._loaded: dict[tuple[str, str], Predictor] = {}

    def get(self, name: str, version: str) -> Predictor:
        """The predictor of a version, loaded on first use.

        Raises:
            ModelError: if it can't be loaded.
        """
        predictor = self._loaded.get((name, version))
        if predictor is None:
            predictor = Predictor.load(self._store, name, version)
            self._loaded[name, predictor.manifest.version] = predictor
            logger.info("loaded %s (%d bytes)", predictor, predictor.manifest.artifact.size_bytes)
        return predictor

    def loaded(self) -> list[Predictor]:
        """All predictors in memory."""
        return list(self._loaded.values())


def _is_time_limit(error: Exception) -> bool:
    """Whether Celery's soft time limit interrupted the estimator; it is raised inside whatever runs."""
    return type(error).__name__ == "SoftTimeLimitExceeded"


def _same(answer: Any, expected: Any) -> bool:
    if isinstance(answer, float) and isinstance(expected, float | int):
        return bool(np.isclose(answer, expected, rtol=SAMPLE_TOLERANCE, atol=SAMPLE_TOLERANCE))
    return bool(answer == expected)


def _non_finite(predictions: NDArray[Any], probabilities: NDArray[np.float64] | None) -> dict[int, PredictionError]:
    """Rows for which the model answered NaN or infinity, which JSON can't say."""
    numbers = predictions if probabilities is None else probabilities
    if numbers.dtype.kind != "f" or np.isfinite(numbers).all():
        return {}
    bad = ~np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1)
    return {
        int(i): PredictionError(ErrorCode.NON_FINITE_OUTPUT.value, "the model answered NaN or infinity", [int(i)])
        for i in np.flatnonzero(bad)
    }


def _plain(values: NDArray[Any], failures: dict[int, PredictionError]) -> list[Any]:
    plain: list[Any] = values.tolist()
    for i in failures:
        plain[i] = None
    return plain
