"""Stores in a directory, behind file:// and in fsspec's memory; S3 is in tests/integration/test_s3_store.py."""

import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.errors import FileUnusable, ModelError, ModelNotFound, StoreUnavailable
from headrace.models.manifest import MANIFEST_FILE
from headrace.models.remote_storage import RemoteStorage
from headrace.models.storage import open_storage
from headrace.models.store import ModelStore
from tests.support.store_contract import StoreContract, add
from tests.unit.headrace.models.test_manifest import document, written


@pytest.fixture
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """No synchronization to the disk, which takes most of the time and matters at a power cut only."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.usefixtures("no_fsync")
class TestDirectory(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ModelStore:
        return ModelStore(tmp_path / "models")


@pytest.mark.usefixtures("no_fsync")
class TestFileUrl(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> ModelStore:
        return ModelStore((tmp_path / "our models").as_uri())


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self) -> ModelStore:
        return ModelStore(f"memory://{uuid.uuid4()}/models/")


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def memory() -> ModelStore:
    return ModelStore(f"memory://{uuid.uuid4()}/models")


def entries(store: ModelStore) -> list[str]:
    """All files of the model "iris", hidden or not."""
    return sorted(path.name for path in Path(store.root, "iris").iterdir())


def test_a_version_of_a_directory_shows_only_when_it_is_complete(store: ModelStore) -> None:
    def write(folder: Path) -> None:
        written(folder, document())
        assert [name for name in entries(store) if not name.startswith(".")] == []
        assert store.names() == []

    store.add("iris", "v1", write)

    assert entries(store) == ["v1"]


def test_no_draft_stays_in_a_directory(store: ModelStore) -> None:
    add(store, "v1")
    add(store, "v2")
    store.set_alias("iris", "latest", "v1")
    store.set_alias("iris", "latest", "v2")
    store.remove("iris", "v1")

    assert entries(store) == ["aliases", "v2"]
    assert [path.name for path in Path(store.root, "iris", "aliases").iterdir()] == ["latest.json"]


def test_a_version_that_is_a_link_is_removed_and_not_what_it_leads_to(store: ModelStore) -> None:
    add(store, "v1")
    Path(store.location("iris", "v2")).symlink_to("v1")

    store.remove("iris", "v2")

    assert entries(store) == ["v1"]
    assert (Path(store.location("iris", "v1")) / MANIFEST_FILE).exists()


def test_all_of_a_version_is_on_the_disk_before_it_shows(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(store.location("iris", "v1"))
    hidden: set[int] = set()
    shown: set[int] = set()

    def fsync(descriptor: int) -> None:
        (shown if folder.exists() else hidden).add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    add(store, "v1")

    assert hidden == {path.stat().st_ino for path in (folder, folder / "model.pkl", folder / "manifest.json")}
    assert shown == {folder.parent.stat().st_ino}


def test_an_alias_is_on_the_disk_before_it_moves(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, "v1")
    alias = Path(store.root, "iris", "aliases", "latest.json")
    synced: list[tuple[int, bool]] = []

    def fsync(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_ino, alias.exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    store.set_alias("iris", "latest", "v1")

    assert synced == [(alias.stat().st_ino, False), (alias.parent.stat().st_ino, True)]


def test_a_file_in_the_place_of_a_folder_is_said_to_be_one(store: ModelStore) -> None:
    Path(store.root).mkdir()
    Path(store.root, "iris").touch()

    for call in (store.manifest, store.versions, store.aliases):
        with pytest.raises(FileUnusable, match=r"iris.*: Not a directory"):
            call("iris")
    with pytest.raises(FileUnusable, match=r"iris.*: Not a directory"):
        add(store, "v1")
    assert store.names() == []


def test_a_folder_that_is_no_model_is_no_matter(store: ModelStore) -> None:
    add(store, "v1")
    for path in ("lost+found/v1", "iris/.adding-x/v1", "iris/v1/nested"):
        Path(store.root, path).mkdir(parents=True)
        Path(store.root, path, MANIFEST_FILE).touch()

    assert store.names() == ["iris"]
    assert store.versions("iris") == ["v1"]
    assert store.aliases("iris") == {}


def test_a_folder_that_is_not_for_us_does_not_hide_the_others(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, "v1")
    locked = Path(store.root, "lost+found")
    locked.mkdir()
    iterdir = Path.iterdir

    # The tests may run as root, who may read everything.
    def refuse(self: Path) -> Iterator[Path]:
        if self == locked:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", refuse)

    assert store.names() == ["iris"]
    with pytest.raises(StoreUnavailable, match="Permission denied"):
        ModelStore(locked).names()


# URLs


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("file://elsewhere/models", "a directory of this machine"),
        ("s3://", "no bucket"),
        ("s3:///prefix", "no bucket"),
        ("cloud://bucket/prefix", "no such kind of model store"),
    ],
)
def test_urls_that_cannot_be_a_store_are_refused(url: str, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        ModelStore(url)


def test_a_password_in_a_url_is_refused_and_not_shown() -> None:
    with pytest.raises(ModelError) as caught:
        ModelStore("s3://key:tops3cret@bucket/prefix")

    assert "tops3cret" not in str(caught.value)


def test_file_urls_are_percent_decoded() -> None:
    assert ModelStore("file:///srv/our%20models").location("iris", "v1") == "/srv/our models/iris/v1"
    assert ModelStore("file://localhost/srv/models").root == "/srv/models"


def test_the_location_of_a_remote_version_is_its_url() -> None:
    assert ModelStore("s3://bucket/prefix/").location("iris", "v1") == "s3://bucket/prefix/iris/v1"


# Remote storage


def test_the_manifest_is_uploaded_last_and_removed_first(memory: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    create = RemoteStorage._create

    def watched(self: RemoteStorage, path: str, source: Path) -> None:
        assert memory.names() == []
        created.append(source.name)
        create(self, path, source)

    created: list[str] = []
    monkeypatch.setattr(RemoteStorage, "_create", watched)

    def write(folder: Path) -> None:
        written(folder, document())
        (folder / "zoo.txt").touch()

    memory.add("iris", "v1", write)

    assert created == ["model.pkl", "zoo.txt", "manifest.json"]


@pytest.mark.parametrize("broken", ["model.pkl", "manifest.json"])
@pytest.mark.parametrize("arrives", [False, True])
def test_a_broken_upload_is_cleaned_up(
    memory: ModelStore, monkeypatch: pytest.MonkeyPatch, broken: str, arrives: bool
) -> None:
    create = RemoteStorage._create

    def break_down(self: RemoteStorage, path: str, source: Path) -> None:
        if source.name != broken or arrives:
            create(self, path, source)
        if source.name == broken:
            raise StoreUnavailable("it does not answer")

    monkeypatch.setattr(RemoteStorage, "_create", break_down)

    with pytest.raises(StoreUnavailable):
        add(memory, "v1")

    assert open_storage(memory.root).find() == []


class Broken(Exception):
    """An error of a backend."""


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (PermissionError("AKIA..."), "access is denied"),
        (TimeoutError(), "it does not answer"),
        (ImportError("Install s3fs"), "s3fs"),
        (Broken("with a secret"), "it failed with Broken"),
    ],
)
def test_what_a_backend_raises_is_one_line_without_its_text(
    memory: ModelStore, monkeypatch: pytest.MonkeyPatch, raised: Exception, reason: str
) -> None:
    def fail(_: RemoteStorage) -> None:
        raise raised

    monkeypatch.setattr(RemoteStorage, "_files", fail)

    for call in (memory.names, lambda: memory.manifest("iris"), lambda: add(memory, "v1")):
        with pytest.raises(StoreUnavailable, match=reason) as caught:
            call()
        assert str(raised) == "" or str(raised) not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_versions_are_listed_only_to_explain_that_one_is_unknown(
    memory: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(memory, "v1")
    monkeypatch.setattr(RemoteStorage, "find", lambda *_: pytest.fail("versions are listed"))

    for name, version in (("iris", "v2"), ("other", "v1")):
        with pytest.raises(ModelNotFound, match=f"'{name}' has no version or alias '{version}'"):
            memory.manifest(name, version, explain=False)
