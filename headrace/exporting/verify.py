"""Checks a version as a worker does before serving it: digest, then the artifact, then what it says of its samples."""

import math
import tempfile
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

from headrace.data.answers import TOLERANCE, ask
from headrace.data.rows import estimator_input
from headrace.errors import ArtifactInvalid, NotExportable
from headrace.exporting.artifact import read_artifact
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore


def verify(store: ModelStore, manifest: Manifest, trusted: Collection[str] = ()) -> None:
    """Fetch, load and ask a model. The artifact is executed, as in a worker, once its digest is the manifest's.

    Args:
        trusted: types that a skops artifact may hold beside those that skops trusts by itself.

    Raises:
        ArtifactInvalid: if it is another one, can't be loaded, or does not predict what the manifest says.
        StoreUnavailable: if the store does not answer.
    """
    content = store.artifact(manifest)
    who = f"{manifest.name} {manifest.version}"
    # What libraries warn of here shows in the predictions, if it matters.
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="headrace-verify-") as folder:
        warnings.simplefilter("ignore")
        Path(folder, manifest.artifact.file).write_bytes(content)
        try:
            estimator = read_artifact(manifest.artifact, Path(folder), trusted)
        except Exception as error:
            raise ArtifactInvalid(f"{who}: it can't be loaded: {_line(error)}") from error
        rows = estimator_input([sample.row for sample in manifest.samples], manifest.features, manifest.input)
        try:
            answers = ask(estimator, rows, probabilities=manifest.probabilities)
        except NotExportable as error:
            raise ArtifactInvalid(f"{who}: {_line(error)}") from error
    for number, sample in enumerate(manifest.samples):
        if not _same(answers.plain(number), (sample.prediction, sample.probabilities)):
            raise ArtifactInvalid(f"{who}: sample {number} is not predicted as when it was exported")


def _same(answer: Any, expected: Any) -> bool:
    if isinstance(answer, list | tuple) and isinstance(expected, list | tuple):
        return len(answer) == len(expected) and all(map(_same, answer, expected))
    if isinstance(answer, float) and isinstance(expected, float | int):
        return math.isclose(answer, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(answer == expected)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
