"""The check of a stored version, as a worker makes it before serving: digests, artifact, known predictions."""

import math
import warnings
from collections.abc import Collection
from functools import partial
from typing import TYPE_CHECKING, Any

from headrace.data.rows import Layout, predict_rows
from headrace.errors import ArtifactInvalid
from headrace.exporting.artifact import read_artifact
from headrace.loading.bounds import UNBOUNDED
from headrace.models.golden import golden_rows
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore

if TYPE_CHECKING:
    from headrace.models.signing import PublicKeys


def verify(
    store: ModelStore,
    manifest: Manifest,
    trusted: Collection[str] = (),
    trusted_modules: Collection[str] = (),
    signers: "PublicKeys | None" = None,
    max_bytes: int = UNBOUNDED,
) -> int:
    """Fetch and load a model, and predict its samples and golden rows.

    The artifact is read by the code of the workers, after its digest was found to be that of the manifest: of a pickle
    only the parts of fitted estimators are taken.

    Args:
        store: the model store that holds the version.
        manifest: the manifest of the version.
        trusted: types that a skops artifact may hold beside those that skops trusts by itself.
        trusted_modules: modules of which a joblib artifact may use everything.
        signers: keys one of which must have signed the version; None if it needs no signature.
        max_bytes: the bound of the bytes of the artifact, and of those to which it unpacks.

    Returns:
        The number of rows that are predicted as at export; 0 if the version has none.

    Raises:
        ArtifactInvalid: if the artifact is not that of the manifest, can't be loaded, or predicts otherwise.
        StoreUnavailable: if the store does not answer.
    """
    if signers is not None:
        manifest = signers.check(store, manifest)
    label = f"{manifest.name} {manifest.version}"
    if manifest.artifact.size_bytes > max_bytes:
        raise ArtifactInvalid(f"{label}: it has more than {max_bytes:,} bytes")
    content = store.artifact(manifest)
    samples = [*manifest.samples, *golden_rows(store, manifest)]
    # A cause for a warning shows in the predictions, if it matters.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            estimator = read_artifact(manifest.artifact, content, trusted, trusted_modules, max_bytes)
        except Exception as error:
            raise ArtifactInvalid(f"{label}: it can't be loaded: {_line(error)}") from error
        if not samples:
            return 0
        rows = [sample.row for sample in samples]
        try:
            predictions = predict_rows(estimator, rows, Layout.of(manifest), probabilities=manifest.probabilities)
        except Exception as error:
            # Rows of another kind than the features make conversions fail, and estimators raise errors of any kind.
            raise ArtifactInvalid(f"{label}: its samples can't be predicted: {_line(error)}") from error
    for number, sample in enumerate(samples):
        if not _same(predictions.of_row(number), (sample.prediction, sample.probabilities), manifest.tolerance):
            raise ArtifactInvalid(f"{label}: sample {number} is not predicted as when it was exported")
    return len(samples)


def _same(found: Any, expected: Any, tolerance: float) -> bool:
    if isinstance(found, list | tuple) and isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(partial(_same, tolerance=tolerance), found, expected))
    if isinstance(found, float) and isinstance(expected, float | int):
        return math.isclose(found, expected, rel_tol=tolerance, abs_tol=tolerance)
    return bool(found == expected)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
