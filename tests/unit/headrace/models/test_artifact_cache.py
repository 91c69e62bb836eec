import hashlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.errors import ArtifactInvalid
from headrace.models.artifact_cache import ArtifactCache
from headrace.models.remote_storage import RemoteStorage
from headrace.models.storage import open_storage
from headrace.models.store import ModelStore
from tests.support.store_contract import add
from tests.unit.headrace.models.test_manifest import CONTENT


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


KINDS = ["pipe", "folder", "link in a circle", "a terabyte"]


def grow(path: Path) -> None:
    path.touch()
    os.truncate(path, 10**12)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(folder: Path) -> ArtifactCache:
    return ArtifactCache(folder, max_bytes=30)


@pytest.fixture
def store(folder: Path) -> ModelStore:
    """A remote store with a version and an empty cache."""
    store = ModelStore(f"memory://{uuid.uuid4()}", ArtifactCache(folder, max_bytes=1000))
    add(store, "v1")
    return store


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The artifacts that were read from a remote store."""
    names: list[str] = []
    parts = RemoteStorage.parts

    def watched(self: RemoteStorage, path: str, max_bytes: int) -> Iterator[bytes]:
        if path.endswith(".pkl"):
            names.append(path)
        return parts(self, path, max_bytes)

    monkeypatch.setattr(RemoteStorage, "parts", watched)
    return names


def test_what_is_kept_is_found(cache: ArtifactCache, folder: Path) -> None:
    assert cache.get(digest(b"a"), 1) is None

    cache.put(digest(b"a"), b"a")

    assert cache.get(digest(b"a"), 1) == b"a"
    assert files(folder) == [digest(b"a")]
    assert folder.stat().st_mode & 0o077 == 0


def test_what_was_altered_is_removed(cache: ArtifactCache, folder: Path) -> None:
    cache.put(digest(b"a"), b"a")
    (folder / digest(b"a")).write_bytes(b"b")

    assert cache.get(digest(b"a"), 1) is None
    assert files(folder) == []


def test_the_one_that_was_not_read_for_the_longest_time_goes_first(cache: ArtifactCache, folder: Path) -> None:
    contents = [letter * 10 for letter in (b"a", b"b", b"c")]
    for age, content in enumerate(reversed(contents)):
        cache.put(digest(content), content)
        os.utime(folder / digest(content), (1000 - age, 1000 - age))
    assert cache.get(digest(contents[0]), 10) == contents[0]

    cache.put(digest(b"d" * 15), b"d" * 15)

    assert files(folder) == sorted([digest(contents[0]), digest(b"d" * 15)])


def test_a_link_to_nothing_does_not_keep_the_cache_from_making_room(cache: ArtifactCache, folder: Path) -> None:
    folder.mkdir()
    (folder / digest(b"x")).symlink_to("nothing")
    for content in (b"a" * 20, b"b" * 20):
        cache.put(digest(content), content)

    assert digest(b"a" * 20) not in files(folder)
    assert cache.get(digest(b"b" * 20), 20) == b"b" * 20


def test_what_is_larger_than_the_cache_is_not_kept_and_displaces_nothing(cache: ArtifactCache, folder: Path) -> None:
    cache.put(digest(b"a"), b"a")

    cache.put(digest(b"d" * 31), b"d" * 31)

    assert files(folder) == [digest(b"a")]


def test_a_folder_that_cannot_be_used_is_an_empty_cache(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = ArtifactCache(tmp_path / "file", max_bytes=30)

    cache.put(digest(b"a"), b"a")

    assert cache.get(digest(b"a"), 1) is None


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path), grow], ids=KINDS)
def test_what_another_user_puts_into_the_folder_is_no_copy(
    cache: ArtifactCache, folder: Path, make: Callable[[Path], None]
) -> None:
    folder.mkdir()
    make(folder / digest(b"a"))

    assert cache.get(digest(b"a"), 1) is None


def test_other_files_in_the_folder_are_left_alone(cache: ArtifactCache, folder: Path) -> None:
    folder.mkdir()
    (folder / "notes").write_bytes(b"n" * 100)

    cache.put(digest(b"a"), b"a")

    assert files(folder) == sorted([digest(b"a"), "notes"])


def test_an_artifact_is_fetched_once(store: ModelStore, fetched: list[str]) -> None:
    manifest = store.manifest("iris", "v1")

    assert [store.artifact(manifest) for _ in range(3)] == [CONTENT] * 3

    assert fetched == ["iris/v1/model.pkl"]


def test_a_tampered_copy_is_fetched_anew(store: ModelStore, fetched: list[str], folder: Path) -> None:
    manifest = store.manifest("iris", "v1")
    store.artifact(manifest)
    (folder / manifest.artifact.sha256).write_bytes(b"evil")

    assert store.artifact(manifest) == CONTENT

    assert len(fetched) == 2
    assert (folder / manifest.artifact.sha256).read_bytes() == CONTENT


def test_a_tampered_artifact_is_not_kept(store: ModelStore, folder: Path) -> None:
    open_storage(store.root).replace("iris/v1/model.pkl", b"evil")

    with pytest.raises(ArtifactInvalid):
        store.artifact(store.manifest("iris", "v1"))

    assert not folder.exists()


def test_a_directory_needs_no_cache(tmp_path: Path, folder: Path) -> None:
    store = ModelStore(tmp_path / "models", ArtifactCache(folder, max_bytes=1000))
    add(store, "v1")

    assert store.artifact(store.manifest("iris", "v1")) == CONTENT

    assert not folder.exists()
