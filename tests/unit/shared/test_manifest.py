import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from shared.errors import ArtifactInvalid, ManifestInvalid
from shared.manifest import Manifest, Reference

CONTENT = b"an estimator"


def document() -> dict[str, Any]:
    """A manifest as JSON holds it: one feature, two classes."""
    return {
        "format_version": 1,
        "name": "iris",
        "version": "v1",
        "created_at": "2026-11-23T12:45:00+00:00",
        "description": "",
        "estimator": "sklearn.dummy.DummyClassifier",
        "artifact": {
            "file": "model.pkl",
            "format": "joblib",
            "sha256": hashlib.sha256(CONTENT).hexdigest(),
            "size_bytes": len(CONTENT),
        },
        "libraries": {"python": "3.12.1"},
        "features": [
            {
                "name": "width",
                "type": "number",
                "minimum": 0.5,
                "maximum": 2.5,
                "histogram_edges": [0.0, 1.0, 2.0, 3.0],
                "reference": {"bins": ["00", "01"], "ratios": [0.25, 0.75], "edges": [1.0]},
            }
        ],
        "output": {
            "kind": "class",
            "classes": ["a", "b"],
            "probabilities": True,
            "reference": {"bins": ["a", "b"], "ratios": [0.5, 0.5]},
        },
        "training_rows": 2,
        "scores": {"accuracy": 0.5},
        "samples": [{"row": [1.5], "prediction": "a", "probabilities": [0.75, 0.25]}],
    }


def written(folder: Path, content: dict[str, Any]) -> Path:
    """The version folder of a manifest and its artifact."""
    (folder / "manifest.json").write_text(json.dumps(content))
    (folder / "model.pkl").write_bytes(CONTENT)
    return folder


def replaced(path: str, value: Any) -> dict[str, Any]:
    """The document with one place changed; `path` is like "features.0.name"."""
    content = document()
    place: Any = content
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        place = place[part]
    place[last] = value
    return content


def test_a_manifest_survives_the_round_trip(tmp_path: Path) -> None:
    manifest = Manifest.read(written(tmp_path, document()))

    (tmp_path / "manifest.json").write_text(manifest.model_dump_json())

    assert Manifest.read(tmp_path) == manifest


def test_the_artifact_that_the_manifest_describes_is_handed_out(tmp_path: Path) -> None:
    folder = written(tmp_path, document())

    assert Manifest.read(folder).verified_artifact(folder) == CONTENT


def test_a_tampered_artifact_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, document())
    (folder / "model.pkl").write_bytes(CONTENT + b"!")

    with pytest.raises(ArtifactInvalid, match="SHA-256 is"):
        Manifest.read(folder).verified_artifact(folder)


def test_a_missing_artifact_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, document())
    (folder / "model.pkl").unlink()

    with pytest.raises(ArtifactInvalid, match="No such file"):
        Manifest.read(folder).verified_artifact(folder)


def test_a_missing_manifest_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid, match=r"manifest\.json: No such file"):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"name": "iris"}'])
def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)

    with pytest.raises(ManifestInvalid) as caught:
        Manifest.read(tmp_path)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", sorted(document().keys() - {"format_version", "description"}))
def test_each_missing_field_is_named(tmp_path: Path, field: str) -> None:
    content = document()
    del content[field]

    with pytest.raises(ManifestInvalid, match=f"{field}: Field required"):
        Manifest.read(written(tmp_path, content))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("format_version", 2),
        ("surprise", 1),
        ("features.0.surprise", 1),
        ("name", "../iris"),
        ("name", ".hidden"),
        ("name", "iris\n"),
        ("version", "a/b"),
        ("version", "v" * 65),
        ("artifact.file", "../../etc/passwd"),
        ("artifact.file", ".."),
        ("artifact.format", "pickle"),
        ("artifact.sha256", "A" * 64),
        ("artifact.size_bytes", 0),
        ("features", []),
        ("features.0.name", ""),
        ("features.0.type", "complex"),
        ("features.0.minimum", float("nan")),
        ("features.0.histogram_edges", [0.0, float("inf")]),
        ("features.0.reference.ratios", [0.0, 1.0]),
        ("features.0.reference.ratios", [1.0]),
        ("features.0.reference.edges", [1.0, 1.0]),
        ("features.0.reference.edges", []),
        ("features.0.reference.bins", []),
        ("output.kind", "text"),
        ("training_rows", 0),
        ("scores.accuracy", float("nan")),
        ("scores.accuracy", None),
        ("samples", []),
        ("samples.0.row", []),
        ("samples.0.row", [1.5, 1.5]),
    ],
)
def test_what_a_manifest_cannot_mean_is_refused(tmp_path: Path, path: str, value: Any) -> None:
    with pytest.raises(ManifestInvalid):
        Manifest.read(written(tmp_path, replaced(path, value)))


def test_two_features_of_one_name_are_refused(tmp_path: Path) -> None:
    content = document()
    content["features"] *= 2
    content["samples"][0]["row"] *= 2

    with pytest.raises(ManifestInvalid, match="feature names repeat"):
        Manifest.read(written(tmp_path, content))


@pytest.mark.parametrize("edges", [[2.0, 1.0], [1.0, 1.0]])
def test_edges_that_do_not_rise_are_refused(edges: list[float]) -> None:
    with pytest.raises(ValidationError, match="edges must rise"):
        Reference(bins=["00", "01", "02"], ratios=[0.25, 0.25, 0.5], edges=edges)


def test_a_single_bin_holds_everything() -> None:
    reference = Reference(bins=["a"], ratios=[1.0])

    assert Reference.model_validate_json(reference.model_dump_json()) == reference


@pytest.mark.parametrize("prediction", ["a", 1, 1.0, True])
def test_predictions_keep_their_type(tmp_path: Path, prediction: str | int | float | bool) -> None:
    manifest = Manifest.read(written(tmp_path, replaced("samples.0.prediction", prediction)))

    assert type(manifest.samples[0].prediction) is type(prediction)
    assert type(Manifest.model_validate_json(manifest.model_dump_json()).samples[0].prediction) is type(prediction)


def test_numbers_without_a_meaning_in_json_never_get_into_a_manifest() -> None:
    with pytest.raises(ValidationError, match="finite"):
        Reference(bins=["00", "01"], ratios=[0.5, 0.5], edges=[float("-inf")])
