"""A predictor: an artifact loaded in memory, with what its manifest says about its rows and answers."""

import logging
import time
from dataclasses import replace
from typing import Any

import numpy as np

from headrace.errors import ArtifactInvalid
from headrace.models.manifest import Manifest, Sample
from headrace.models.store import ModelStore
from shared.observability.logs import PRIVATE
from shared.queue.contract import ErrorCode
from worker.model.allow_list import AllowList
from worker.model.argmax import classes_by_probability, greatest
from worker.model.loader import LoadedEstimator, is_time_limit, load_estimator
from worker.model.memory_map import verified_file, worth_mapping
from worker.model.predictions import AnswerReader, MalformedAnswer, Predictions, failed
from worker.model.rows import Rows, row_converter

logger = logging.getLogger(__name__)

SAMPLE_TOLERANCE = 1e-6
"""Largest relative or absolute difference of a sample's numbers from the manifest's: machines round differently."""

FIXED_BYTES = 100_000
"""Memory of a predictor beside its estimator, about: manifest, metrics."""


class Predictor:
    """One version of a model, ready to predict."""

    def __init__(self, manifest: Manifest, loaded: LoadedEstimator) -> None:
        self.manifest = manifest
        self.size_bytes = loaded.size_bytes + FIXED_BYTES
        """Memory that it takes, about."""
        self._estimator = loaded.estimator
        self._convert = row_converter(manifest)
        self._answers = AnswerReader(manifest)
        self._classes: Any = None
        """Set if predictions can be read off the probabilities."""

    @classmethod
    def load(cls, store: ModelStore, manifest: Manifest, trust: AllowList | None = None) -> "Predictor":
        """Load a version: signature and digest first, then the library version, then the artifact, then its samples.

        Raises:
            ModelError: if the version is missing, altered, or does not predict what its manifest says.
        """
        trust = trust or AllowList()
        if trust.signers is not None:
            trust.signers.check(store, manifest)
        content = None
        if worth_mapping(manifest) and store.artifact_file(manifest) is None:
            # Of a remote store: now its cache has the file, if it has room for it.
            content = store.artifact(manifest)
        try:
            with verified_file(store, manifest) as file:
                if file is not None:
                    return cls._checked(manifest, load_estimator(manifest, file, trust))
        except Exception as error:
            # Some estimators write into their arrays. What is wrong with the artifact itself shows again below.
            if is_time_limit(error):
                raise
            logger.info("%s %s is read instead of mapped: %s", manifest.name, manifest.version, error)
        return cls._checked(manifest, load_estimator(manifest, content or store.artifact(manifest), trust))

    @classmethod
    def _checked(cls, manifest: Manifest, loaded: LoadedEstimator) -> "Predictor":
        predictor = cls(manifest, loaded)
        predictor.check_samples()
        predictor._classes = classes_by_probability(manifest, predictor._estimator, predictor._convert)
        return predictor

    def check_samples(self) -> None:
        """Predict the manifest's sample rows; also warms the estimator up.

        Raises:
            ArtifactInvalid: if an answer is not the manifest's.
        """
        samples = self.manifest.samples
        answer = self.predict([sample.row for sample in samples])
        for at, sample in enumerate(samples):
            if at in answer.failures:
                raise ArtifactInvalid(f"{self}: sample {at}: {answer.failures[at].message}")
            probabilities = answer.probabilities[at] if answer.probabilities else None
            if not _agrees(answer.predictions[at], probabilities, sample):
                raise ArtifactInvalid(f"{self}: sample {at} is not predicted as when it was exported")

    def __str__(self) -> str:
        return f"{self.manifest.name} {self.manifest.version}"

    def predict(self, rows: Rows) -> Predictions:
        """Predict n rows in one call of the estimator; if it raises, in ever smaller parts, so a bad row fails alone.

        `compute_seconds` is the time until the last answer, conversions included.
        """
        started = time.perf_counter()
        answer = self._predict(rows)
        return replace(answer, compute_seconds=time.perf_counter() - started)

    def _predict(self, rows: Rows) -> Predictions:
        try:
            predictions, probabilities = self._ask(self._convert(rows))
            return self._answers.read(predictions, probabilities, len(rows))
        except MalformedAnswer as error:
            logger.error("%s: %s", self, error)
            return self._none(len(rows), "the model's answer has the wrong shape")
        except Exception as error:
            if is_time_limit(error):
                raise
            # Nothing is made less by halving it; no gateway sends that.
            if len(rows) <= 1:
                # The message of a foreign exception may hold values of the row: neither log nor caller get it.
                logger.warning("%s: row failed", self, exc_info=True, extra=PRIVATE)
                return self._none(len(rows), f"the model raised {type(error).__name__}")
            logger.warning("%s: %s in a batch of %d rows, now in halves", self, type(error).__name__, len(rows))
        # Halving finds one bad row among n in about 2 log2(n) calls instead of n.
        middle = len(rows) // 2
        return _joined(self._predict(rows[:middle]), self._predict(rows[middle:]))

    def _ask(self, made: Any) -> tuple[Any, Any]:
        if not self.manifest.probabilities:
            return self._estimator.predict(made), None
        probabilities = self._estimator.predict_proba(made)
        if self._classes is not None:
            positions = greatest(probabilities)
            if positions is not None:
                return self._classes[positions], probabilities
        # predict() is not always the class of the greatest probability (SVC calibrates them apart), so ask for both.
        return self._estimator.predict(made), probabilities

    def _none(self, n_rows: int, message: str) -> Predictions:
        failures = {at: failed(at, ErrorCode.PREDICTION_FAILED, message) for at in range(n_rows)}
        return Predictions([None] * n_rows, [None] * n_rows if self.manifest.probabilities else None, failures=failures)


def _joined(first: Predictions, second: Predictions) -> Predictions:
    offset = len(first.predictions)
    failures = dict(first.failures)
    for at, error in second.failures.items():
        failures[offset + at] = failed(offset + at, ErrorCode(error.code), error.message)
    probabilities = None if first.probabilities is None else first.probabilities + (second.probabilities or [])
    confidence = np.concatenate([first.confidence, second.confidence])
    return Predictions(first.predictions + second.predictions, probabilities, confidence, failures=failures)


def _agrees(prediction: Any, probabilities: Any, sample: Sample) -> bool:
    if isinstance(prediction, list) != isinstance(sample.prediction, list):
        return False
    answers = prediction if isinstance(prediction, list) else [prediction]
    expected = sample.prediction if isinstance(sample.prediction, list) else [sample.prediction]
    if len(answers) != len(expected) or not all(map(_same, answers, expected)):
        return False
    if sample.probabilities is None:
        return True
    if probabilities is None:
        return False
    found, shares = ([*_flat(probabilities)], [*_flat(sample.probabilities)])
    return len(found) == len(shares) and np.allclose(found, shares, rtol=0, atol=SAMPLE_TOLERANCE)


def _same(answer: Any, expected: Any) -> bool:
    if isinstance(answer, float) and isinstance(expected, float | int):
        return bool(np.isclose(answer, expected, rtol=SAMPLE_TOLERANCE, atol=SAMPLE_TOLERANCE))
    # 1 and True are equal, and not the same class.
    return type(answer) is type(expected) and bool(answer == expected)


def _flat(shares: Any) -> list[float]:
    """Shares of one output, or of several one after another."""
    return [each for part in shares for each in (part if isinstance(part, list) else [part])]
