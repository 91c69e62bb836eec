"""Manifests for tests, without a model behind them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.models.alias import LATEST
from headrace.models.manifest import MANIFEST_FILE, Artifact, Feature, Manifest, Output, Reference, Sample
from headrace.models.store import ModelStore


def classifier(
    names: Sequence[str] = ("length", "width"),
    classes: Sequence[Any] = ("short", "long"),
    *,
    name: str = "sticks",
    version: str = "v1",
    probabilities: bool = True,
) -> Manifest:
    """Return the manifest of a classifier that predicts the first class for its first sample, and so on."""
    shares = 1 / len(classes)
    samples = [
        Sample(
            row=[float(i)] * len(names),
            prediction=label,
            probabilities=[float(label == other) for other in classes] if probabilities else None,
        )
        for i, label in enumerate(classes)
    ]
    output = Output(
        kind="class",
        classes=list(classes),
        reference=Reference(bins=[str(label) for label in classes], ratios=[shares] * len(classes)),
    )
    return _manifest(name, version, names, output, samples, probabilities)


def regressor(
    names: Sequence[str] = ("length", "width"), *, name: str = "weights", version: str = "v1", sample: float = 0.1
) -> Manifest:
    """Return the manifest of a regressor; `sample` is its answer to its only sample. Bins: up to 0, up to 1, above."""
    reference = Reference(bins=["00", "01", "02"], ratios=[0.25, 0.5, 0.25], edges=[0.0, 1.0])
    output = Output(kind="number", reference=reference)
    return _manifest(name, version, names, output, [Sample(row=[1.0] * len(names), prediction=sample)], False)


def _manifest(
    name: str, version: str, names: Sequence[str], output: Output, samples: list[Sample], probabilities: bool
) -> Manifest:
    return Manifest(
        name=name,
        version=version,
        created_at="2026-11-23T12:45:00+00:00",
        estimator="nothing.Nobody",
        artifact=Artifact(file="model.pkl", format="joblib", sha256="0" * 64, size_bytes=1),
        libraries={"python": "3.12.1", "scikit-learn": "1.9.1"},
        features=[feature(each) for each in names],
        outputs=[output],
        probabilities=probabilities,
        training_rows=len(samples),
        scores={},
        samples=samples,
    )


def mixed(*features: Feature, name: str = "sticks", version: str = "v1") -> Manifest:
    """Return the manifest of a regressor that was fitted on a data frame with these columns."""
    values = {"number": 1.0, "string": "red", "boolean": True}
    samples = [Sample(row=[values[each.type] for each in features], prediction=0.1)]
    described = regressor(name=name, version=version).model_dump()
    return Manifest(**{**described, "features": features, "input": "frame", "samples": samples})


def feature(name: str, *, nullable: bool = False) -> Feature:
    """Return a numeric feature. Bins: up to 1.5, above."""
    bins = ["00", "01", *(["missing"] if nullable else [])]
    return Feature(
        name=name,
        nullable=nullable,
        minimum=0.0,
        maximum=3.0,
        histogram_edges=[1.0, 2.0],
        reference=Reference(bins=bins, ratios=[1 / len(bins)] * len(bins), edges=[1.5]),
    )


def text(name: str, categories: Sequence[str] | None = ("red", "blue"), *, nullable: bool = False) -> Feature:
    """Return a text feature; `categories` is None if there were too many."""
    bins = [*(categories or ()), "other", *(["missing"] if nullable else [])]
    return Feature(
        name=name,
        type="string",
        dtype="object",
        nullable=nullable,
        categories=None if categories is None else list(categories),
        reference=_even(bins),
    )


def flag(name: str, *, nullable: bool = False) -> Feature:
    """Return a boolean feature."""
    bins = ["False", "True", *(["missing"] if nullable else [])]
    return Feature(name=name, type="boolean", dtype="object", nullable=nullable, reference=_even(bins))


def _even(bins: list[str]) -> Reference:
    return Reference(bins=bins, ratios=[1 / len(bins)] * len(bins) if len(bins) > 1 else [1])


def stored(root: Path, manifest: Manifest) -> ModelStore:
    """Return a model store that holds the manifest as its latest version, without an artifact."""
    store = ModelStore(root)

    def write(folder: Path) -> None:
        (folder / MANIFEST_FILE).write_text(manifest.model_dump_json())

    store.add(manifest.name, manifest.version, write)
    store.set_alias(manifest.name, LATEST, manifest.version)
    return store
