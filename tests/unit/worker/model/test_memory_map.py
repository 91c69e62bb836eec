import hashlib
import io
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier

from headrace.errors import ArtifactInvalid
from headrace.exporting.exporter import export
from headrace.loading.arrays import MAPPED_ARRAY_BYTES
from headrace.loading.unpickler import unpickle
from headrace.models.artifact_cache import ArtifactCache
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from tests.unit.worker.conftest import OURS, Publish, rewrite, rows_of
from worker.model.memory_map import MAPPED_BYTES_MIN, verified_file
from worker.model.predictor import Predictor

ROWS = np.random.default_rng(0).normal(size=(2000, 4))
CLASSES = np.where(ROWS[:, 0] > 0, "high", "low")


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("evil",)


class Writer(BaseEstimator):  # type: ignore[misc]
    """An estimator that writes to its array when it predicts."""

    def fit(self, rows: Any, targets: Any) -> "Writer":
        self.classes_ = np.unique(targets)
        self.held_ = np.zeros((2000, 4))
        return self

    def predict(self, rows: Any) -> Any:
        self.held_[0] = 1.0
        return np.full(len(rows), self.classes_[0])


@pytest.fixture
def low_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.model.memory_map.MAPPED_BYTES_MIN", 1000)
    monkeypatch.setattr("headrace.loading.arrays.MAPPED_ARRAY_BYTES", 10_000)


@pytest.fixture
def neighbors(publish: Publish, low_limits: None) -> Manifest:
    return publish("m", estimator=brute(), rows=ROWS)


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder


def brute() -> Any:
    return KNeighborsClassifier(algorithm="brute").fit(ROWS, CLASSES)


def held(predictor: Predictor) -> Any:
    return predictor._estimator._fit_X


def path_of(store: ModelStore, manifest: Manifest) -> Path:
    return Path(store.location(manifest.name, manifest.version)) / manifest.artifact.file


def replace_artifact(store: ModelStore, manifest: Manifest, value: Any, compress: int = 0) -> Manifest:
    """Replace the artifact of a version, and its digest in the manifest."""
    path = path_of(store, manifest)
    joblib.dump(value, path, compress=compress)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    artifact = manifest.artifact.model_copy(update={"sha256": digest, "size_bytes": len(content)})
    return rewrite(store, manifest, artifact=artifact)


def test_a_mapped_estimator_predicts_as_one_that_was_read(
    store: ModelStore, neighbors: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = Predictor.load(store, neighbors)
    monkeypatch.setattr("worker.model.memory_map.MAPPED_BYTES_MIN", MAPPED_BYTES_MIN)
    read = Predictor.load(store, neighbors)

    assert isinstance(held(mapped), np.memmap)
    assert not held(mapped).flags.writeable
    assert not isinstance(held(read), np.memmap)
    assert np.array_equal(held(mapped), held(read))
    ours, theirs = (each.predict(ROWS[:50].tolist()) for each in (mapped, read))
    assert (ours.predictions, ours.probabilities) == (theirs.predictions, theirs.probabilities)


def test_mapped_arrays_do_not_count_as_memory(store: ModelStore, neighbors: Manifest) -> None:
    file_bytes = neighbors.artifact.size_bytes
    with verified_file(store, neighbors) as file:
        assert file is not None
        estimator, size_bytes = unpickle(file)

    read_bytes = unpickle(path_of(store, neighbors).read_bytes())[1]
    # The targets are mapped as well.
    assert size_bytes == read_bytes - ROWS.nbytes - estimator._y.nbytes
    assert size_bytes < file_bytes


def test_arrays_that_were_copied_count_as_memory(publish: Publish, store: ModelStore, low_limits: None) -> None:
    forest = RandomForestClassifier(3, random_state=0).fit(ROWS, np.random.default_rng(1).integers(0, 2, 2000))
    manifest = publish("forest", estimator=forest, rows=ROWS)

    with verified_file(store, manifest) as file:
        assert file is not None
        size_bytes = unpickle(file)[1]

    assert size_bytes >= manifest.artifact.size_bytes


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "?", "<U3", [("a", "i1"), ("b", "f8")]])
def test_arrays_are_what_they_were(tmp_path: Path, low_limits: None, dtype: Any, order: Any) -> None:
    array = np.asarray(np.arange(60_000).reshape(300, 200).astype(dtype), order=order)
    joblib.dump({"small": array[:2, :2], "array": array, "again": array, "after": 1}, tmp_path / "file")

    with (tmp_path / "file").open("rb") as file:
        found, _ = unpickle(file)

    assert isinstance(found["array"], np.memmap)
    assert not isinstance(found["small"], np.memmap)
    assert found["array"].dtype == array.dtype
    assert found["array"].flags.f_contiguous == array.flags.f_contiguous
    assert np.array_equal(found["array"], array)
    assert np.array_equal(found["small"], array[:2, :2])
    assert found["after"] == 1


@pytest.mark.parametrize(
    "array", [np.arange(60_000, dtype=">f8"), np.array(["a", None] * 30_000, dtype=object)], ids=["swapped", "objects"]
)
def test_arrays_that_memory_holds_otherwise_are_read(tmp_path: Path, low_limits: None, array: Any) -> None:
    joblib.dump(array, tmp_path / "file")

    with (tmp_path / "file").open("rb") as file:
        found, _ = unpickle(file)

    assert not isinstance(found, np.memmap)
    assert np.array_equal(found, array)


def test_a_file_that_ends_within_an_array_is_refused(tmp_path: Path, low_limits: None) -> None:
    joblib.dump(np.arange(60_000), tmp_path / "file")
    os.truncate(tmp_path / "file", 100_000)

    with (tmp_path / "file").open("rb") as file, pytest.raises(ValueError):
        unpickle(file)


def test_small_artifacts_are_read(publish: Publish, store: ModelStore) -> None:
    manifest = publish("m", estimator=brute(), rows=ROWS)

    with verified_file(store, manifest) as file:
        assert file is None
    assert manifest.artifact.size_bytes < MAPPED_BYTES_MIN
    assert not isinstance(held(Predictor.load(store, manifest)), np.memmap)


def test_bytes_are_never_mapped() -> None:
    stream = io.BytesIO()
    joblib.dump(np.zeros(MAPPED_ARRAY_BYTES), stream)

    assert not isinstance(unpickle(stream.getvalue())[0], np.memmap)


@pytest.mark.parametrize("compress", [("zlib", 3), ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3)])
def test_compressed_artifacts_are_read(store: ModelStore, neighbors: Manifest, compress: Any) -> None:
    manifest = replace_artifact(store, neighbors, brute(), compress)

    with verified_file(store, manifest) as file:
        assert file is None
    assert not isinstance(held(Predictor.load(store, manifest)), np.memmap)


def test_a_tampered_file_is_refused_before_it_is_unpickled(
    store: ModelStore, neighbors: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = path_of(store, neighbors)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr("worker.model.loader.unpickle", lambda *_: pytest.fail("unpickled"))

    with pytest.raises(ArtifactInvalid, match="SHA-256"):
        Predictor.load(store, neighbors)


def test_a_missing_file_is_refused(store: ModelStore, neighbors: Manifest) -> None:
    path_of(store, neighbors).unlink()

    with pytest.raises(ArtifactInvalid, match="no such file"):
        Predictor.load(store, neighbors)


def test_what_is_not_trusted_is_refused(store: ModelStore, neighbors: Manifest, in_empty_folder: Path) -> None:
    manifest = replace_artifact(store, neighbors, [ROWS, Evil()])

    with pytest.raises(ArtifactInvalid, match="not trusted"):
        Predictor.load(store, manifest)
    with verified_file(store, manifest) as file, pytest.raises(ArtifactInvalid, match="not trusted"):
        assert file is not None
        unpickle(file)

    assert list(in_empty_folder.iterdir()) == []


def test_an_estimator_that_writes_into_its_arrays_is_read(
    publish: Publish, store: ModelStore, low_limits: None
) -> None:
    manifest = publish("w", estimator=Writer().fit(ROWS, CLASSES), rows=ROWS, extra_modules=["tests"])

    predictor = Predictor.load(store, manifest, OURS)

    assert predictor._estimator.held_.flags.writeable
    assert predictor.predict(rows_of(manifest)).failures == {}


def test_of_a_remote_store_the_cache_is_mapped(tmp_path: Path, low_limits: None) -> None:
    cache = ArtifactCache(tmp_path / "cache", max_bytes=10_000_000)
    store = ModelStore(f"memory://{uuid.uuid4()}", cache)
    manifest = export(brute(), ROWS, store=store, name="m", version="v1", scores={}, format="joblib").manifest

    first, second = (Predictor.load(store, manifest) for _ in range(2))

    for predictor in (first, second):
        assert isinstance(held(predictor), np.memmap)
    (tmp_path / "cache" / manifest.artifact.sha256).write_bytes(b"\x80evil")
    assert Predictor.load(store, manifest).predict(rows_of(manifest)).failures == {}


def test_without_a_cache_a_remote_artifact_is_read(low_limits: None) -> None:
    store = ModelStore(f"memory://{uuid.uuid4()}")
    manifest = export(brute(), ROWS, store=store, name="m", version="v1", scores={}, format="joblib").manifest

    assert not isinstance(held(Predictor.load(store, manifest)), np.memmap)
