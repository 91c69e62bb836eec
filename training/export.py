"""Writes a fitted estimator into the model store as a new version: the artifact with its manifest beside it."""

import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import is_classifier, is_regressor

from shared.manifest import MANIFEST_FILE, Feature, Manifest, Output, Sample
from shared.model_store import LATEST, ModelStore
from training.artifact import write_artifact
from training.reference import class_reference, histogram_edges, numeric_reference

SAMPLES = 5


def export(
    estimator: Any,
    rows: ArrayLike,
    *,
    store: ModelStore,
    name: str,
    feature_names: Sequence[str],
    scores: Mapping[str, float],
    version: str | None = None,
    description: str = "",
) -> Manifest:
    """Add a version of a model to the store and point the alias `latest` to it.

    Args:
        estimator: a fitted classifier or regressor with one output per row.
        rows: the rows that it was fitted on, shape (n rows, n features), all finite numbers. Reference distributions
            come from them; that of the output from what the estimator predicts for them, because that is what
            live predictions are compared with.
        scores: what is known of its quality, by name.
        version: by default the time, such as 20261123T124500Z (UTC), which sorts.

    Returns:
        The manifest, as read back from the store.

    Raises:
        TypeError: if it is neither a classifier nor a regressor, or has classes other than text, integers, booleans.
        ValueError: if rows, feature names or scores don't fit the above, or there is more than one output per row.
        FileExistsError: if the version exists.
        ModelError: if name or version are not usable as such.
        OSError: if the store can't be written.
    """
    if not (is_classifier(estimator) or is_regressor(estimator)):
        raise TypeError(f"{type(estimator).__name__} is neither a classifier nor a regressor")
    matrix = _matrix(rows, feature_names)
    now = datetime.now(timezone.utc)
    version = version or now.strftime("%Y%m%dT%H%M%SZ")

    def write(folder: Path) -> None:
        artifact = write_artifact(estimator, folder)
        # The estimator as a worker gets it, not the one in memory: what can't be loaded is never published.
        loaded = joblib.load(folder / artifact.file)
        outputs = np.asarray(loaded.predict(matrix))
        manifest = Manifest(
            name=name,
            version=version,
            created_at=now.isoformat(timespec="seconds"),
            description=description,
            estimator=f"{type(estimator).__module__}.{type(estimator).__qualname__}",
            artifact=artifact,
            libraries=_libraries(),
            features=[_feature(*column) for column in zip(feature_names, matrix.T, strict=True)],
            output=_output(loaded, outputs),
            training_rows=len(matrix),
            scores=dict(scores),
            samples=_samples(loaded, matrix[_sample_positions(outputs)]),
        )
        (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n")

    store.add(name, version, write)
    store.set_alias(name, LATEST, version)
    return store.manifest(name, version)


def _matrix(rows: ArrayLike, feature_names: Sequence[str]) -> NDArray[np.float64]:
    matrix = np.asarray(rows, dtype=np.float64)
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(f"rows have shape {matrix.shape}, expected (n rows, n features) with at least one of each")
    if matrix.shape[1] != len(feature_names):
        raise ValueError(f"{len(feature_names)} feature names for {matrix.shape[1]} columns")
    if not np.isfinite(matrix).all():
        raise ValueError("rows hold NaN or infinity")
    return matrix


def _libraries() -> dict[str, str]:
    versions = {library: metadata.version(library) for library in ("scikit-learn", "numpy", "joblib")}
    return {"python": platform.python_version(), **versions}


def _feature(name: str, values: NDArray[np.float64]) -> Feature:
    return Feature(
        name=name,
        type="number",
        minimum=float(values.min()),
        maximum=float(values.max()),
        histogram_edges=histogram_edges(values),
        reference=numeric_reference(values),
    )


def _output(estimator: Any, outputs: NDArray[Any]) -> Output:
    if outputs.ndim != 1:
        raise ValueError(f"predictions have shape {outputs.shape}, expected one output per row")
    if is_regressor(estimator):
        return Output(kind="number", reference=numeric_reference(outputs.astype(np.float64)))
    classes = estimator.classes_.tolist()
    # The manifest's type would turn a class 1.0 into 1, which no prediction then matches.
    if not all(isinstance(each, (str, int)) for each in classes):
        raise TypeError(f"classes must be text, integers or booleans, not {classes}")
    return Output(
        kind="class",
        classes=classes,
        probabilities=hasattr(estimator, "predict_proba"),
        reference=class_reference(outputs, classes),
    )


def _sample_positions(outputs: NDArray[Any]) -> list[int]:
    """Rows whose outputs spread over the classes, or over the range of a number."""
    _, first_of_each = np.unique(outputs, return_index=True)
    spread = [*_evenly(first_of_each), *_evenly(np.argsort(outputs, kind="stable"))]
    return list(dict.fromkeys(spread))[:SAMPLES]


def _evenly(positions: NDArray[np.intp]) -> list[int]:
    taken = np.linspace(0, len(positions) - 1, min(SAMPLES, len(positions))).round().astype(int)
    return [int(position) for position in positions[taken]]


def _samples(estimator: Any, rows: NDArray[np.float64]) -> list[Sample]:
    predictions = estimator.predict(rows).tolist()
    with_shares = hasattr(estimator, "predict_proba")
    probabilities = estimator.predict_proba(rows).tolist() if with_shares else [None] * len(rows)
    return [
        Sample(row=row, prediction=prediction, probabilities=shares)
        for row, prediction, shares in zip(rows.tolist(), predictions, probabilities, strict=True)
    ]
