import fcntl
import gc
import hashlib
import io
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

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
from tests.support.forks import in_child
from tests.unit.worker.conftest import OURS, Publish, rewrite, rows_of
from worker.model import predictor as module
from worker.model.allow_list import AllowList
from worker.model.load_journal import LoadJournal
from worker.model.loader import LoadedEstimator, load_estimator
from worker.model.predictor import Predictor
from worker.model.private_copy import MAPPED_BYTES_MIN, private_copy

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
    monkeypatch.setattr("worker.model.private_copy.MAPPED_BYTES_MIN", 1000)
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


def replace_artifact(store: ModelStore, manifest: Manifest, value: Any, compress: Any = 0) -> Manifest:
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
    monkeypatch.setattr("worker.model.private_copy.MAPPED_BYTES_MIN", MAPPED_BYTES_MIN)
    read = Predictor.load(store, neighbors)

    assert isinstance(held(mapped), np.memmap)
    assert not held(mapped).flags.writeable
    assert not isinstance(held(read), np.memmap)
    assert np.array_equal(held(mapped), held(read))
    ours, theirs = (each.predict(ROWS[:50].tolist()) for each in (mapped, read))
    assert (ours.predictions, ours.probability_rows()) == (theirs.predictions, theirs.probability_rows())


def test_while_arrays_are_mapped_the_whole_copy_counts_as_memory(store: ModelStore, neighbors: Manifest) -> None:
    with private_copy(store, neighbors) as file:
        assert not isinstance(file, bytes)
        estimator, size_bytes = unpickle(file)

    read_bytes = unpickle(path_of(store, neighbors).read_bytes())[1]
    # The targets are mapped as well.
    n_mapped = ROWS.nbytes + estimator._y.nbytes
    assert size_bytes == read_bytes + neighbors.artifact.size_bytes - n_mapped


def test_of_a_copy_without_mapped_arrays_nothing_is_left(publish: Publish, store: ModelStore, low_limits: None) -> None:
    forest = RandomForestClassifier(3, random_state=0).fit(ROWS, np.random.default_rng(1).integers(0, 2, 2000))
    manifest = publish("forest", estimator=forest, rows=ROWS)

    with private_copy(store, manifest) as file:
        assert not isinstance(file, bytes)
        kept, size_bytes = unpickle(file)

    assert manifest.artifact.size_bytes <= size_bytes < 2 * manifest.artifact.size_bytes
    assert copies_of(manifest) == []
    assert kept.n_features_in_ == 4


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

    with private_copy(store, manifest) as content:
        assert isinstance(content, bytes)
    assert manifest.artifact.size_bytes < MAPPED_BYTES_MIN
    assert not isinstance(held(Predictor.load(store, manifest)), np.memmap)


def test_bytes_are_never_mapped() -> None:
    stream = io.BytesIO()
    joblib.dump(np.zeros(MAPPED_ARRAY_BYTES), stream)

    assert not isinstance(unpickle(stream.getvalue())[0], np.memmap)


@pytest.mark.parametrize("compress", [("zlib", 3), ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3)])
def test_compressed_artifacts_are_read(store: ModelStore, neighbors: Manifest, compress: Any) -> None:
    manifest = replace_artifact(store, neighbors, brute(), compress)

    with private_copy(store, manifest) as content:
        assert isinstance(content, bytes)
    assert copies_of(manifest) == []
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
    with private_copy(store, manifest) as file, pytest.raises(ArtifactInvalid, match="not trusted"):
        unpickle(file)

    assert list(in_empty_folder.iterdir()) == []


def test_an_estimator_that_writes_into_its_arrays_is_read(
    publish: Publish, store: ModelStore, low_limits: None
) -> None:
    manifest = publish("w", estimator=Writer().fit(ROWS, CLASSES), rows=ROWS, extra_modules=["tests"])

    predictor = Predictor.load(store, manifest, OURS)

    assert predictor._estimator.held_.flags.writeable
    assert predictor.predict(rows_of(manifest)).failures == {}


def test_the_artifact_of_a_remote_store_is_mapped_too(tmp_path: Path, low_limits: None) -> None:
    cache = ArtifactCache(tmp_path / "cache", max_bytes=10_000_000)
    store = ModelStore(f"memory://{uuid.uuid4()}", cache)
    manifest = export(brute(), ROWS, store=store, name="m", version="v1", scores={}, format="joblib").manifest

    first, second = (Predictor.load(store, manifest) for _ in range(2))

    for predictor in (first, second):
        assert isinstance(held(predictor), np.memmap)
    (tmp_path / "cache" / manifest.artifact.sha256).write_bytes(b"\x80evil")
    for predictor in (first, second, Predictor.load(store, manifest)):
        assert predictor.predict(rows_of(manifest)).failures == {}


def overwrite(path: Path) -> None:
    """Replace each byte of a file, and the pickle in it, without another file in its place."""
    stream = io.BytesIO()
    joblib.dump(Evil(), stream)
    with path.open("r+b") as file:
        file.write(stream.getvalue().ljust(path.stat().st_size, b"\0"))


def truncate(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("change", [overwrite, truncate])
def test_a_file_that_changes_after_its_check_changes_nothing(
    store: ModelStore,
    neighbors: Manifest,
    in_empty_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
) -> None:
    def changed(*options: Any) -> LoadedEstimator:
        change(path_of(store, neighbors))
        return load_estimator(*options)

    expected = Predictor.load(store, neighbors).predict(ROWS[:50].tolist())
    monkeypatch.setattr(module, "load_estimator", changed)

    predictor = Predictor.load(store, neighbors)

    assert isinstance(held(predictor), np.memmap)
    assert predictor.predict(ROWS[:50].tolist()).predictions == expected.predictions
    assert list(in_empty_folder.iterdir()) == []


@pytest.mark.parametrize("change", [overwrite, truncate])
@pytest.mark.parametrize("limit", ["mapped", "read"])
def test_a_file_that_changes_after_the_load_changes_no_prediction(
    store: ModelStore,
    publish: Publish,
    request: pytest.FixtureRequest,
    limit: str,
    change: Callable[[Path], None],
) -> None:
    if limit == "mapped":
        request.getfixturevalue("low_limits")
    manifest = publish("m", estimator=brute(), rows=ROWS)
    predictor = Predictor.load(store, manifest)
    before = held(predictor).copy()

    change(path_of(store, manifest))

    assert np.array_equal(held(predictor), before)
    del predictor
    gc.collect()
    with pytest.raises(ArtifactInvalid, match="SHA-256"):
        Predictor.load(store, manifest)


def copies_of(manifest: Manifest) -> list[Path]:
    """Return the open memory files of this process with an artifact."""
    name = f"/memfd:headrace-{manifest.artifact.sha256} "
    return [link for link in Path("/proc/self/fd").iterdir() if os.path.lexists(link) and name in str(link.readlink())]


def test_a_copy_can_be_written_by_nobody(store: ModelStore, neighbors: Manifest) -> None:
    predictor = Predictor.load(store, neighbors)

    [copy] = copies_of(neighbors)
    with pytest.raises(PermissionError), copy.open("r+b", buffering=0) as file:
        file.write(b"?")
    with pytest.raises(PermissionError):
        os.truncate(copy, 0)
    del predictor
    gc.collect()
    assert copies_of(neighbors) == []


def test_processes_share_one_copy(store: ModelStore, neighbors: Manifest) -> None:
    predictors = [Predictor.load(store, neighbors) for _ in range(2)]

    assert len({copy.stat().st_ino for copy in copies_of(neighbors)}) == 1
    assert len(predictors) == 2


def test_a_child_takes_the_copy_of_another_process(store: ModelStore, neighbors: Manifest) -> None:
    journal = LoadJournal()
    predictors = [Predictor.load(store, neighbors, journal=journal)]
    path_of(store, neighbors).unlink()

    def copy() -> None:
        predictors.clear()
        gc.collect()
        assert copies_of(neighbors) == []
        with private_copy(store, neighbors, journal) as file:
            assert not isinstance(file, bytes)
            assert unpickle(file)[0].n_samples_fit_ == len(ROWS)

    assert in_child(copy) == 0


@pytest.mark.parametrize("seals", [0, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW, fcntl.F_SEAL_WRITE])
def test_a_memory_file_that_can_change_is_not_taken(store: ModelStore, neighbors: Manifest, seals: int) -> None:
    with _memory_file(neighbors, path_of(store, neighbors).read_bytes(), seals) as planted:
        predictor = Predictor.load(store, neighbors)

        assert Path(f"/proc/self/fd/{planted.fileno()}").stat().st_ino not in {
            copy.stat().st_ino for copy in copies_of(neighbors) if copy.name != str(planted.fileno())
        }
        assert isinstance(held(predictor), np.memmap)


def test_a_memory_file_with_another_content_is_not_taken(
    store: ModelStore, neighbors: Manifest, in_empty_folder: Path
) -> None:
    stream = io.BytesIO()
    joblib.dump(Evil(), stream)
    padded = stream.getvalue().ljust(neighbors.artifact.size_bytes, b"\0")
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    with _memory_file(neighbors, stream.getvalue(), seals), _memory_file(neighbors, padded, seals):
        assert isinstance(held(Predictor.load(store, neighbors)), np.memmap)
    assert list(in_empty_folder.iterdir()) == []


def test_of_a_memory_file_of_another_size_nothing_is_read(
    store: ModelStore, neighbors: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    with _memory_file(neighbors, path_of(store, neighbors).read_bytes() + b"?", seals):
        monkeypatch.setattr("worker.model.private_copy.hashlib", None)
        assert isinstance(held(Predictor.load(store, neighbors)), np.memmap)


def _memory_file(manifest: Manifest, content: bytes, seals: int) -> BinaryIO:
    name = f"headrace-{manifest.artifact.sha256}"
    file = open(os.memfd_create(name, os.MFD_ALLOW_SEALING), "w+b")  # noqa: PTH123, SIM115
    file.write(content)
    file.flush()
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
    return file


@pytest.mark.parametrize("missing", ["os.memfd_create", "fcntl.fcntl"])
def test_without_memory_files_an_artifact_is_read(
    store: ModelStore, neighbors: Manifest, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    if missing == "os.memfd_create":
        monkeypatch.delattr(missing)
    else:
        monkeypatch.setattr(missing, lambda *_: (_ for _ in ()).throw(OSError("no seals")))

    assert not isinstance(held(Predictor.load(store, neighbors)), np.memmap)


@pytest.mark.parametrize("compress", [("zlib", 9), ("gzip", 9), ("bz2", 9), ("lzma", 3), ("xz", 3)])
def test_an_artifact_that_unpacks_to_too_much_is_refused(
    store: ModelStore, publish: Publish, compress: tuple[str, int]
) -> None:
    manifest = replace_artifact(store, publish("m"), np.zeros(1_000_000), compress)
    assert manifest.artifact.size_bytes < 50_000

    with pytest.raises(ArtifactInvalid, match="m v1: it unpacks to more than the 4,000,000 bytes that it may take"):
        Predictor.load(store, manifest, AllowList(), 4_000_000)
