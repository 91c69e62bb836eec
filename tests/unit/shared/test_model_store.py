import json
import os
from pathlib import Path

import pytest

from shared.errors import ManifestInvalid, ModelError, ModelNotFound
from shared.manifest import Manifest
from shared.model_store import ModelStore
from tests.unit.shared.test_manifest import document, written


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


def add(store: ModelStore, version: str, name: str = "iris") -> None:
    """A version whose manifest fits it, without an alias."""
    store.add(name, version, lambda folder: _fill(folder, name, version))


def _fill(folder: Path, name: str, version: str) -> None:
    written(folder, {**document(), "name": name, "version": version})


def entries(store: ModelStore) -> list[str]:
    """All there is of the model "iris", hidden or not."""
    return sorted(path.name for path in (store.root / "iris").iterdir())


def test_a_version_is_found_by_its_name_and_by_an_alias(store: ModelStore) -> None:
    add(store, "v1")
    store.set_alias("iris", "latest", "v1")

    assert store.manifest("iris", "v1") == store.manifest("iris") == Manifest.read(store.folder("iris", "v1"))


def test_an_alias_moves_and_the_others_stay(store: ModelStore) -> None:
    add(store, "v1")
    add(store, "v2")
    store.set_alias("iris", "latest", "v1")
    store.set_alias("iris", "stable", "v1")

    store.set_alias("iris", "latest", "v2")

    assert store.aliases("iris") == {"latest": "v2", "stable": "v1"}
    assert entries(store) == ["aliases.json", "v1", "v2"]


def test_an_alias_cannot_point_to_nothing(store: ModelStore) -> None:
    add(store, "v1")

    with pytest.raises(ModelNotFound, match="no version 'v2'"):
        store.set_alias("iris", "latest", "v2")

    assert entries(store) == ["v1"]


def test_unknown_models_and_versions_are_not_found(store: ModelStore) -> None:
    with pytest.raises(ModelNotFound, match="no model 'iris'"):
        store.manifest("iris")

    add(store, "v1")
    store.set_alias("iris", "latest", "v1")

    with pytest.raises(ModelNotFound, match="no version 'v2'"):
        store.manifest("iris", "v2")


@pytest.mark.parametrize(
    "outside", ["..", ".", "", "../iris", "a/b", "/etc", "iris\n", "ir\0is", ".adding-x", "x" * 65]
)
def test_names_that_lead_out_of_the_store_are_rejected(store: ModelStore, outside: str) -> None:
    add(store, "v1")
    store.set_alias("iris", "latest", "v1")

    with pytest.raises(ModelNotFound):
        store.manifest(outside)
    with pytest.raises(ModelNotFound):
        store.manifest("iris", outside)
    with pytest.raises(ModelError):
        add(store, outside)
    with pytest.raises(ModelError):
        add(store, "v1", name=outside)
    with pytest.raises(ModelError):
        store.set_alias("iris", "latest", outside)

    assert [path.name for path in store.root.iterdir()] == ["iris"]
    assert entries(store) == ["aliases.json", "v1"]


def test_an_alias_that_was_edited_to_lead_outside_is_rejected(store: ModelStore, tmp_path: Path) -> None:
    add(store, "v1")
    written(tmp_path, document())
    (store.root / "iris" / "aliases.json").write_text('{"latest": "../.."}')

    with pytest.raises(ModelNotFound):
        store.manifest("iris")


@pytest.mark.parametrize("version", ["latest", "aliases.json"])
def test_a_version_cannot_take_a_name_that_the_store_uses(store: ModelStore, version: str) -> None:
    with pytest.raises(ModelError, match="can't be a version"):
        add(store, version)


def test_a_version_that_exists_is_not_written_again(store: ModelStore) -> None:
    add(store, "v1")

    with pytest.raises(FileExistsError, match="'v1' of 'iris' exists already"):
        store.add("iris", "v1", lambda folder: pytest.fail("nobody must write"))


def test_of_two_processes_that_add_one_version_the_first_wins(store: ModelStore) -> None:
    def write(folder: Path) -> None:
        add(store, "v1")
        (folder / "mine").touch()

    with pytest.raises(FileExistsError, match="'v1' of 'iris' exists already"):
        store.add("iris", "v1", write)

    assert entries(store) == ["v1"]
    assert not (store.folder("iris", "v1") / "mine").exists()


def test_a_version_shows_only_when_it_is_complete(store: ModelStore) -> None:
    def write(folder: Path) -> None:
        written(folder, document())
        assert not store.folder("iris", "v1").exists()
        assert [name for name in entries(store) if not name.startswith(".")] == []

    store.add("iris", "v1", write)

    assert entries(store) == ["v1"]


def test_all_of_a_version_is_on_the_disk_before_it_shows(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.folder("iris", "v1")
    hidden: set[int] = set()
    shown: set[int] = set()

    def fsync(descriptor: int) -> None:
        (shown if folder.exists() else hidden).add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", fsync)
    add(store, "v1")

    assert hidden == {path.stat().st_ino for path in (folder, folder / "model.pkl", folder / "manifest.json")}
    assert shown == {folder.parent.stat().st_ino}


def test_a_failed_write_leaves_nothing_behind(store: ModelStore) -> None:
    def write(folder: Path) -> None:
        (folder / "model.pkl").write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        store.add("iris", "v1", write)

    assert entries(store) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"v1"', b"\xff"])
def test_damaged_aliases_are_an_invalid_manifest(store: ModelStore, content: bytes) -> None:
    add(store, "v1")
    (store.root / "iris" / "aliases.json").write_bytes(content)

    with pytest.raises(ManifestInvalid, match=r"aliases\.json: not"):
        store.manifest("iris")
    with pytest.raises(ManifestInvalid, match=r"aliases\.json: not"):
        store.set_alias("iris", "latest", "v1")


def test_a_file_in_the_place_of_a_model_is_an_invalid_manifest(store: ModelStore) -> None:
    store.root.mkdir()
    (store.root / "iris").touch()

    with pytest.raises(ManifestInvalid, match="Not a directory"):
        store.manifest("iris")


def test_a_manifest_of_another_version_is_refused(store: ModelStore) -> None:
    store.add("iris", "v2", lambda folder: _fill(folder, "iris", "v1"))
    store.set_alias("iris", "latest", "v2")

    with pytest.raises(ManifestInvalid, match="the manifest is of iris v1"):
        store.manifest("iris")


def test_the_alias_file_is_for_people_too(store: ModelStore) -> None:
    add(store, "v1")
    store.set_alias("iris", "latest", "v1")

    content = (store.root / "iris" / "aliases.json").read_text()
    assert content.endswith("\n")
    assert json.loads(content) == {"latest": "v1"}
