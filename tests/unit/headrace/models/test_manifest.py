import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.catalog.served_models import BYTES_MAX
from headrace.errors import ArtifactInvalid, ManifestInvalid
from headrace.models.artifact_cache import check_digest
from headrace.models.fields import DESCRIPTION_MAX, EDGES_MAX, FACT_MAX, LABEL_MAX, NAME_MAX, PARTS_MAX
from headrace.models.manifest import FEATURES_MAX, FILLED_MAX, MANIFEST_FORMAT, Manifest, Reference
from headrace.models.storage import DOCUMENT_BYTES_MAX

CONTENT = b"an estimator"


def document() -> dict[str, Any]:
    """A manifest as JSON holds it: one feature, two classes."""
    return {
        "format_version": MANIFEST_FORMAT,
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
        "outputs": [
            {"kind": "class", "classes": ["a", "b"], "reference": {"bins": ["a", "b"], "ratios": [0.5, 0.5]}},
        ],
        "probabilities": True,
        "training_rows": 2,
        "scores": {"accuracy": 0.5},
        "samples": [{"row": [1.5], "prediction": "a", "probabilities": [0.75, 0.25]}],
    }


def numbered(n_edges: int) -> dict[str, Any]:
    """A reference of a number, with so many edges."""
    n_bins = n_edges + 1
    edges = [at / 7 for at in range(n_edges)]
    return {"bins": [f"{at:02d}" for at in range(n_bins)], "ratios": [1 / n_bins] * n_bins, "edges": edges}


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


def parsed(content: dict[str, Any]) -> Manifest:
    return Manifest.parse(json.dumps(content).encode(), "manifest.json")


def test_a_manifest_survives_the_round_trip() -> None:
    manifest = parsed(document())

    assert Manifest.parse(manifest.model_dump_json().encode(), "manifest.json") == manifest


def test_a_digest_is_compared() -> None:
    check_digest("0" * 64, "0" * 64, "model.pkl")

    with pytest.raises(ArtifactInvalid, match=r"model\.pkl: its SHA-256 is not the one that the manifest says, 1{12}…"):
        check_digest("0" * 64, "1" * 64, "model.pkl")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"name": "iris"}'])
def test_a_file_that_is_no_manifest_is_refused(content: bytes) -> None:
    with pytest.raises(ManifestInvalid, match=r"^here: ") as caught:
        Manifest.parse(content, "here")

    assert "\n" not in str(caught.value)


def many(number: int, form: str) -> bytes:
    return ",".join(form.replace("#", str(at)) for at in range(number)).encode()


TEXT = '{"name":"t#","type":"string","reference":{"bins":["other"],"ratios":[1]}}'
OUTPUT = '{"kind":"number","reference":{"bins":["other"],"ratios":[1]}}'
FILLED = '{"name":"","position":0,"dtype":"object","value":null}'


TEXTS = [
    ("estimator", FACT_MAX),
    ("created_at", FACT_MAX),
    ("libraries.python", FACT_MAX),
    ("description", DESCRIPTION_MAX),
    ("features.0.name", NAME_MAX),
    ("features.0.reference.bins.0", LABEL_MAX),
    ("outputs.0.reference.bins.1", LABEL_MAX),
    ("outputs.0.classes.1", LABEL_MAX),
]


@pytest.mark.parametrize(("path", "longest"), TEXTS, ids=[path for path, _ in TEXTS])
def test_texts_of_a_manifest_have_bounds(path: str, longest: int) -> None:
    assert parsed(replaced(path, "x" * longest))

    with pytest.raises(ManifestInvalid, match=f"{path}.*at most {longest} characters"):
        parsed(replaced(path, "x" * (longest + 1)))


@pytest.mark.parametrize("place", ["libraries", "scores", "artifact"])
def test_a_name_in_a_manifest_makes_no_long_reason(place: str) -> None:
    content = document()
    content[place]["x" * 1_000_000] = []

    with pytest.raises(ManifestInvalid) as caught:
        parsed(content)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("field", "content", "reason"),
    [
        ("features", lambda: b"[%b]" % many(FEATURES_MAX + 1, TEXT), "features: List should have at most 10000 items"),
        ("outputs", lambda: b"[%b]" % many(FEATURES_MAX + 1, OUTPUT), "outputs: List should have at most 10000 items"),
        ("filled", lambda: b"[%b]" % many(FILLED_MAX + 1, FILLED), "filled: List should have at most 50000 items"),
        (
            "samples",
            lambda: b"[%b]" % many(1001, '{"row":[1],"prediction":1}'),
            "samples: List should have at most 1000",
        ),
        ("scores", lambda: b"{%b}" % many(1001, '"#":1'), "scores: Dictionary should have at most 1000 items"),
        ("libraries", lambda: b"{%b}" % many(1001, '"#":""'), "libraries: Dictionary should have at most 1000 items"),
        ("surprise", lambda: b"[%b]" % many(PARTS_MAX, "1"), "it has more than 800,000 values"),
        ("surprise", lambda: b"[%b]" % (b"[" * PARTS_MAX), "it has more than 800,000 values"),
        ("features", lambda: b"[%b]" % many(200_000, "{}"), "features.0.name: Field required"),
        ("samples", lambda: b'[{"row":[%b],"prediction":1}]' % many(200_000, "{}"), "samples.0.row.0"),
        ("libraries", lambda: b"{%b}" % many(200_000, '"#":1'), "it has 200,000 mistakes"),
        ("artifact", lambda: b"{%b}" % many(200_000, '"#":1'), "it has 200,004 mistakes"),
    ],
)
def test_a_manifest_has_bounds(field: str, content: Callable[[], bytes], reason: str) -> None:
    text = json.dumps(replaced(field, "HERE") | {"input": "frame"}).encode()

    with pytest.raises(ManifestInvalid, match=f"^here: {reason}"):
        Manifest.parse(text.replace(b'"HERE"', content()), "here")


def test_the_widest_models_are_taken_and_their_memory_is_estimated() -> None:
    numbers = {**document()["features"][0], "reference": {"bins": [*"0123456789"], "ratios": [0.1] * 10}}
    numbers["reference"]["edges"] = [float(at) for at in range(9)]
    features = [{**numbers, "name": f"x{at}"} for at in range(FEATURES_MAX)]
    content = document() | {"features": features, "samples": [{"row": [0.5] * FEATURES_MAX, "prediction": "a"}] * 8}
    document_of_it = parsed(content).model_dump_json(indent=2).encode()

    manifest = Manifest.parse(document_of_it, "here")
    assert len(document_of_it) < DOCUMENT_BYTES_MAX
    # Python objects take 50 to 100 bytes for each number of the bins.
    assert FEATURES_MAX * 3_000 < manifest.memory_bytes < BYTES_MAX / 2
    assert parsed(document()).memory_bytes < 100_000


OPTIONAL = {"format_version", "description", "probabilities", "samples"}


@pytest.mark.parametrize("field", sorted(document().keys() - OPTIONAL))
def test_each_missing_field_is_named(field: str) -> None:
    content = document()
    del content[field]

    with pytest.raises(ManifestInvalid, match=f"{field}: Field required"):
        parsed(content)


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
        ("features.0.histogram_edges", [1.0, 0.0]),
        ("features.0.histogram_edges", [float(at) for at in range(EDGES_MAX + 1)]),
        *[("features.0.dtype", dtype) for dtype in ["evil", "", "f8,O", "V8", "period[D]", "foo[pyarrow]"]],
        ("features.0.dtype", "datetime64[ns, dateutil//etc/passwd]"),
        ("features.0.dtype", "datetime64[ns, UTC/../../../etc/passwd]"),
        ("features.0.longest", 10**30),
        ("features.0.longest", -1),
        ("features.0.reference.ratios", [0.0, 1.0]),
        ("features.0.reference.ratios", [1.0]),
        ("features.0.reference.edges", [1.0, 1.0]),
        ("features.0.reference.edges", []),
        ("features.0.reference.bins", []),
        ("features.0.reference", numbered(EDGES_MAX + 1)),
        ("outputs.0.kind", "text"),
        ("outputs.0.classes", [2**63, 1]),
        ("filled", [{"name": "a", "position": 2**63, "dtype": "float64", "value": 0.0}]),
        ("filled", [{"name": "a", "position": 0, "dtype": "evil", "value": 0.0}]),
        ("training_rows", 0),
        ("training_rows", 2**63),
        ("artifact.size_bytes", 2**63),
        ("samples.0.prediction", 10**400),
        ("samples.0.row", [10**400]),
        ("scores.accuracy", float("nan")),
        ("scores.accuracy", None),
        ("samples.0.row", []),
        ("samples.0.row", [1.5, 1.5]),
    ],
)
def test_what_a_manifest_cannot_mean_is_refused(path: str, value: Any) -> None:
    with pytest.raises(ManifestInvalid):
        parsed(replaced(path, value))


@pytest.mark.parametrize(
    "dtype",
    [
        *("float16", "int8", "uint64", "bool", "UInt8", "Float64", "boolean", "object", "str", "string", "category"),
        *("datetime64[ns]", "datetime64[us, America/Argentina/Buenos_Aires]", "datetime64[s, Etc/GMT+1]"),
        "timedelta64[ms]",
    ],
)
def test_dtypes_of_columns_are_taken(dtype: str) -> None:
    filled = {"name": "a", "position": 0, "dtype": dtype, "value": None}

    assert parsed(replaced("filled", [filled])).filled[0].dtype == dtype


def test_a_number_may_have_more_bins_than_an_export_makes() -> None:
    edges = parsed(replaced("features.0.reference", numbered(EDGES_MAX))).features[0].reference.edges

    assert len(edges or ()) == EDGES_MAX


def test_two_features_of_one_name_are_refused() -> None:
    content = document()
    content["features"] *= 2
    content["samples"][0]["row"] *= 2

    with pytest.raises(ManifestInvalid, match="feature names repeat"):
        parsed(content)


@pytest.mark.parametrize("edges", [[2.0, 1.0], [1.0, 1.0]])
def test_edges_that_do_not_rise_are_refused(edges: list[float]) -> None:
    with pytest.raises(ValidationError, match="edges must rise"):
        Reference(bins=["00", "01", "02"], ratios=[0.25, 0.25, 0.5], edges=edges)


def test_a_single_bin_holds_everything() -> None:
    reference = Reference(bins=["a"], ratios=[1.0])

    assert Reference.model_validate_json(reference.model_dump_json()) == reference


@pytest.mark.parametrize("prediction", ["a", 1, 1.0, True])
def test_predictions_keep_their_type(prediction: str | int | float | bool) -> None:
    manifest = parsed(replaced("samples.0.prediction", prediction))

    assert type(manifest.samples[0].prediction) is type(prediction)
    assert type(Manifest.model_validate_json(manifest.model_dump_json()).samples[0].prediction) is type(prediction)


def test_numbers_without_a_meaning_in_json_never_get_into_a_manifest() -> None:
    with pytest.raises(ValidationError, match="finite"):
        Reference(bins=["00", "01"], ratios=[0.5, 0.5], edges=[float("-inf")])


def test_an_unknown_format_is_called_so_whatever_else_is_new() -> None:
    content = {**document(), "format_version": 2, "outputs": "in another form"}

    with pytest.raises(
        ManifestInvalid, match=r"manifest\.json: format_version is not 1, the only one that this program"
    ):
        parsed(content)


REFERENCE = {"bins": ["a", "other"], "ratios": [0.5, 0.5]}


@pytest.mark.parametrize(
    ("feature", "complaint"),
    [
        ({"type": "string", "minimum": 0.5}, None),
        ({"type": "string", "minimum": 0.5, "maximum": 1.5, "histogram_edges": [0.0, 1.0]}, "belong to numbers"),
        ({"type": "number"}, "belong to numbers"),
        ({"type": "string", "nullable": True}, "a bin for missing values belongs to nullable features"),
        ({"type": "boolean", "reference": {**REFERENCE, "edges": [1.0]}}, "reference edges belong to numbers"),
        ({"type": "string"}, "an array holds numbers only"),
    ],
)
def test_features_fit_their_type(feature: dict[str, Any], complaint: str | None) -> None:
    content = document()
    content["features"] = [{"name": "x", "reference": REFERENCE, **feature}]

    with pytest.raises(ManifestInvalid, match=complaint or "array holds numbers only"):
        parsed(content)


def test_a_frame_may_hold_texts_that_are_null() -> None:
    content = document()
    reference = {"bins": ["a", "other", "missing"], "ratios": [0.5, 0.25, 0.25]}
    content["features"] = [{"name": "x", "type": "string", "nullable": True, "dtype": "object", "reference": reference}]
    content["input"] = "frame"
    content["samples"][0]["row"] = [None]

    assert parsed(content).features[0].reference.has_missing


def test_an_array_has_one_dtype() -> None:
    features = document()["features"] * 2
    content = replaced("features", [features[0], {**features[1], "name": "height", "dtype": "float32"}])
    content["samples"][0]["row"] = [1.5, 1.5]

    with pytest.raises(ManifestInvalid, match="an array has one dtype"):
        parsed(content)
    content["features"][0]["dtype"] = "float32"
    assert parsed(content).filled == []


def test_numbers_of_less_precision_agree_with_more_tolerance() -> None:
    assert parsed(document()).tolerance == 1e-6
    assert parsed(replaced("features.0.dtype", "float32")).tolerance == 1e-4
