"""Predictors: a version's estimator in memory, with the conversion of its rows and answers."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from headrace.errors import ArtifactInvalid
from headrace.loading.bounds import UNBOUNDED
from headrace.models.golden import golden_rows
from headrace.models.manifest import Manifest, Sample
from headrace.models.store import ModelStore
from shared.queue.contract import ErrorCode
from worker.model.allow_list import AllowList
from worker.model.bisection import Bisection
from worker.model.examination import Examiner
from worker.model.load_journal import LoadJournal
from worker.model.loader import LoadedEstimator, contained, is_time_limit, load_estimator
from worker.model.predictions import AnswerReader, Predictions, row_error
from worker.model.private_copy import private_copy
from worker.model.rows import MixedRows, Rows, row_converter, rows_at
from worker.model.shortcuts import argmax_without_ties, array_converter, classes_by_probability

logger = logging.getLogger(__name__)

NOT_TRIED = "an earlier row of the same call failed"

FIXED_BYTES = 100_000
"""Bytes of memory that a predictor takes beside its estimator and manifest, about: metrics."""


class Predictor:
    """One version of a model, ready to predict."""

    def __init__(self, manifest: Manifest, loaded: LoadedEstimator, golden: Sequence[Sample] = ()) -> None:
        """Serve an estimator; `golden` are the private rows that it must predict beside the manifest's samples."""
        self.manifest = manifest
        self._checked_rows = [*manifest.samples, *golden]
        self.size_bytes = loaded.size_bytes + manifest.memory_bytes + FIXED_BYTES
        """Bytes of memory that the predictor takes, about."""
        self._estimator = loaded.estimator
        self._convert = row_converter(manifest)
        self._answers = AnswerReader(manifest)
        self._examiner = Examiner(manifest, self._checked_rows)
        self._classes: Any = None
        """Classes in the order of the probabilities, if predictions can be read off these; else None."""

    @classmethod
    def load(
        cls,
        store: ModelStore,
        manifest: Manifest,
        allow_list: AllowList | None = None,
        max_bytes: int = UNBOUNDED,
        journal: LoadJournal | None = None,
        make_room: Callable[[int], None] = lambda _: None,
    ) -> "Predictor":
        """Load a version: check signature, digest and scikit-learn's version, load the artifact, predict the samples.

        Args:
            store: The model store that holds the version.
            manifest: The version.
            allow_list: The modules, types and signers that are trusted.
            max_bytes: The bound of the bytes to which the artifact unpacks.
            journal: The journal of the loads of the worker.
            make_room: Called with the bytes of the artifact once its signature and digest are checked, before it is
                read: a version that is not what it claims makes no other one leave the memory.

        Raises:
            ModelError: if the version is missing, altered, or does not predict its samples as the manifest says.
        """
        allow_list = allow_list or AllowList()
        if allow_list.signers is not None:
            manifest = allow_list.signers.check(store, manifest)
        with private_copy(store, manifest, journal) as content:
            # Before the load begins, because a store that answers slowly says nothing of the version.
            golden = golden_rows(store, manifest)
            make_room(manifest.artifact.size_bytes)
            with journal.noting(manifest) if journal else nullcontext():
                return cls._read(manifest, content, allow_list, max_bytes, golden)

    @classmethod
    def _read(
        cls,
        manifest: Manifest,
        content: bytes | BinaryIO,
        allow_list: AllowList,
        max_bytes: int,
        golden: Sequence[Sample],
    ) -> "Predictor":
        if not isinstance(content, bytes):
            try:
                loaded = load_estimator(manifest, content, allow_list, max_bytes)
                return cls._checked(manifest, loaded, golden)
            except Exception as error:
                # Some estimators write to their arrays, which fails if these are mapped. An error of the artifact
                # itself is raised again below.
                if is_time_limit(error):
                    raise
                logger.info("%s %s is read instead of mapped: %s", manifest.name, manifest.version, error)
            content.seek(0)
            content = content.read()
        return cls._checked(manifest, load_estimator(manifest, content, allow_list, max_bytes), golden)

    @classmethod
    def _checked(cls, manifest: Manifest, loaded: LoadedEstimator, golden: Sequence[Sample]) -> "Predictor":
        predictor = cls(manifest, loaded, golden)
        predictor.check_samples()
        predictor._shorten()
        return predictor

    def _shorten(self) -> None:
        """Use the shorter ways to the same predictions that the estimator has."""
        rows = [sample.row for sample in self._checked_rows]
        self._convert = array_converter(self.manifest, self._estimator, self._convert, rows) or self._convert
        self._classes = classes_by_probability(self.manifest, self._estimator, self._convert, rows)

    def check_samples(self) -> None:
        """Predict the samples and the golden rows, which also warms up the estimator.

        Raises:
            ArtifactInvalid: if a prediction is not that of the export. The message shows no value of a row.
        """
        samples = self._checked_rows
        if not samples:
            return
        answer = self.predict([sample.row for sample in samples])
        probabilities = answer.probability_rows()
        for at, sample in enumerate(samples):
            if at in answer.failures:
                raise ArtifactInvalid(f"{self}: sample {at}: {answer.failures[at].message}")
            shares = probabilities[at] if probabilities else None
            if not _agrees(answer.predictions[at], shares, sample, self.manifest.tolerance):
                raise ArtifactInvalid(f"{self}: sample {at} is not predicted as when it was exported")

    def __str__(self) -> str:
        return f"{self.manifest.name} {self.manifest.version}"

    def predict(self, rows: Rows, sizes: Sequence[int] = ()) -> Predictions:
        """Predict n rows, usually in one call of the estimator.

        Rows that must be converted apart are predicted apart. If the estimator raises, or answers for another number
        of rows, the rows are predicted in ever smaller parts, so that a bad row fails alone.
        `compute_seconds` of the result is the time until the last part, conversions included.

        Args:
            rows: The rows of all calls, one call after another.
            sizes: The number of rows of each call; by default all rows are one call.
        """
        started = time.perf_counter()
        failed: Exception | None = None
        try:
            answer = self._attempt(rows)
        except Exception as error:
            if is_time_limit(error):
                raise
            failed = error
        # Outside of the handler, so that the tracebacks of the parts don't repeat this one.
        if failed is not None:
            answer = self._predict_in_parts(rows, sizes or [len(rows)], failed)
        elif answer.failures:
            answer = replace(answer, failures=self._examiner.examine(self._attempt, rows, {}, answer.failures))
        return replace(answer, compute_seconds=time.perf_counter() - started)

    @contained()
    def _attempt(self, rows: Rows) -> Predictions:
        try:
            inputs = self._convert(rows)
        except MixedRows as mixed:
            held = mixed.held
        else:
            predictions, probabilities = self._call_estimator(inputs)
            return self._answers.read(predictions, probabilities, len(rows))
        return self._attempt_apart(rows, held)

    def _attempt_apart(self, rows: Rows, held: NDArray[np.bool_]) -> Predictions:
        """Predict the rows where `held`, shape (n rows,), is true, and then the others, whose column is of float64."""
        order = np.concatenate([np.flatnonzero(held), np.flatnonzero(~held)])
        n_held = int(np.count_nonzero(held))
        parts = [self._attempt(rows_at(rows, part)) for part in (order[:n_held], order[n_held:])]
        return _in_order(_concatenated(*parts), order.tolist())

    def _predict_in_parts(self, rows: Rows, sizes: Sequence[int], error: Exception) -> Predictions:
        found = Bisection(self._attempt, rows, sizes, error)
        answer = found.predictions(self.manifest.probabilities)
        failures = self._examiner.examine(self._attempt, rows, found.errors, answer.failures)
        # An untried row shares the code of the row before it that fails.
        code = ErrorCode.ROW_REJECTED
        for at in sorted([*found.errors, *found.untried]):
            code = ErrorCode(failures[at].code) if at in failures else code
            failures.setdefault(at, row_error(at, code, NOT_TRIED))
        return replace(answer, failures=failures, untried=frozenset(found.untried))

    def _call_estimator(self, inputs: Any) -> tuple[Any, Any]:
        """Return the estimator's predictions, and its probabilities or None."""
        if not self.manifest.probabilities:
            return self._estimator.predict(inputs), None
        probabilities = self._estimator.predict_proba(inputs)
        if self._classes is not None:
            positions = argmax_without_ties(probabilities)
            if positions is not None:
                return self._classes[positions], probabilities
        # predict() is not always the class of the greatest probability (SVC calibrates probabilities apart).
        return self._estimator.predict(inputs), probabilities


def _concatenated(first: Predictions, second: Predictions) -> Predictions:
    offset = len(first.predictions)
    failures = dict(first.failures)
    for at, error in second.failures.items():
        failures[offset + at] = row_error(offset + at, ErrorCode(error.code), error.message)
    ours, theirs = first.probability_rows(), second.probability_rows()
    probabilities = None if ours is None else ours + (theirs or [])
    confidence = np.concatenate([first.confidence, second.confidence])
    return Predictions(first.predictions + second.predictions, probabilities, confidence, failures=failures)


def _in_order(answer: Predictions, positions: list[int]) -> Predictions:
    """Return an answer in the order of the rows; its items belong to the rows at `positions`."""
    at = {position: item for item, position in enumerate(positions)}
    failures = {
        positions[item]: row_error(positions[item], ErrorCode(error.code), error.message)
        for item, error in answer.failures.items()
    }
    predictions = [answer.predictions[at[position]] for position in range(len(positions))]
    rows = answer.probability_rows()
    probabilities = rows and [rows[at[position]] for position in range(len(positions))]
    return Predictions(predictions, probabilities, answer.confidence, failures=failures)


def _agrees(prediction: Any, probabilities: Any, sample: Sample, tolerance: float) -> bool:
    """Return True if a prediction and its probabilities are a sample's. Machines round differently."""
    if isinstance(prediction, list) != isinstance(sample.prediction, list):
        return False
    found = prediction if isinstance(prediction, list) else [prediction]
    expected = sample.prediction if isinstance(sample.prediction, list) else [sample.prediction]
    if len(found) != len(expected) or not all(map(partial(_is_same_value, tolerance=tolerance), found, expected)):
        return False
    if sample.probabilities is None:
        return True
    if probabilities is None:
        return False
    ours, theirs = _flattened(probabilities), _flattened(sample.probabilities)
    return len(ours) == len(theirs) and np.allclose(ours, theirs, rtol=0, atol=tolerance)


def _is_same_value(found: Any, expected: Any, tolerance: float) -> bool:
    if isinstance(found, float) and isinstance(expected, float | int):
        return bool(np.isclose(found, expected, rtol=tolerance, atol=tolerance))
    # 1 and True are equal in Python, but they are different classes.
    return type(found) is type(expected) and bool(found == expected)


def _flattened(probabilities: Any) -> list[float]:
    """Return the probabilities of one output, or of several outputs one after another."""
    return [each for part in probabilities for each in (part if isinstance(part, list) else [part])]
