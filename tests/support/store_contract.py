"""The contract of every kind of model store. A test class inherits from it and provides the fixture `store`."""

import threading
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.removal import prunable
from headrace.errors import ArtifactInvalid, FileUnusable, ManifestInvalid, ModelError, ModelNotFound
from headrace.models.alias import ALIAS_BYTES_MAX, Alias
from headrace.models.manifest import SIGNATURE_FILE, Manifest
from headrace.models.storage import open_storage, read_document
from headrace.models.store import ModelStore
from tests.unit.headrace.models.test_manifest import CONTENT, document, written


def add(store: ModelStore, version: str, name: str = "iris", **changes: Any) -> None:
    """Add a version with a matching manifest and no alias."""

    def write(folder: Path) -> None:
        written(folder, {**document(), "name": name, "version": version, **changes})

    store.add(name, version, write)


class StoreContract:
    """The tests of the contract."""

    rounds = 100
    """Number of times that an alias moves there and back under its readers."""

    def test_a_version_is_found_by_its_name_and_by_an_alias(self, store: ModelStore) -> None:
        add(store, "v1")
        store.set_alias("iris", "latest", "v1")

        assert store.names() == ["iris"]
        assert store.versions("iris") == ["v1"]
        assert store.resolve("iris") == store.resolve("iris", "v1") == "v1"
        assert store.manifest("iris", "v1") == store.manifest("iris")
        assert store.artifact(store.manifest("iris")) == CONTENT

    def test_nothing_is_there_at_first(self, store: ModelStore) -> None:
        assert store.names() == []
        assert store.versions("iris") == []
        assert store.aliases("iris") == {}
        with pytest.raises(ModelNotFound, match="no model 'iris'"):
            store.manifest("iris")
        with pytest.raises(ModelNotFound, match="no model 'iris'"):
            prunable(store, "iris", 1)

    def test_unknown_versions_are_not_found(self, store: ModelStore) -> None:
        add(store, "v1")

        for reference in ("v2", "latest"):
            with pytest.raises(ModelNotFound, match=f"no version or alias '{reference}'"):
                store.manifest("iris", reference)
            with pytest.raises(ModelNotFound, match=f"no version or alias '{reference}'"):
                store.resolve("iris", reference)
        with pytest.raises(ModelNotFound, match="no version or alias 'v2'"):
            store.remove("iris", "v2")

    def test_models_of_which_one_name_begins_with_the_other_are_kept_apart(self, store: ModelStore) -> None:
        add(store, "v1")
        add(store, "v2", name="iris-large")
        store.set_alias("iris-large", "latest", "v2")

        assert store.names() == ["iris", "iris-large"]
        assert store.versions("iris") == ["v1"]
        assert store.aliases("iris") == {}

    def test_versions_come_in_the_order_of_their_making(self, store: ModelStore) -> None:
        add(store, "v10", created_at="2026-11-03T00:00:00+00:00")
        add(store, "v9", created_at="2026-11-02T00:00:00+00:00")
        add(store, "a", created_at="2026-11-04T00:00:00+00:00")

        assert store.versions("iris") == ["v9", "v10", "a"]

    def test_what_one_writes_another_sees_at_once(self, store: ModelStore) -> None:
        other = ModelStore(store.root)
        assert other.names() == []

        add(store, "v1")
        assert (other.names(), other.versions("iris"), other.aliases("iris")) == (["iris"], ["v1"], {})
        store.set_alias("iris", "latest", "v1")
        assert other.resolve("iris") == "v1"

        add(store, "v2")
        store.set_alias("iris", "latest", "v2")
        assert (other.resolve("iris"), other.aliases("iris")) == ("v2", {"latest": "v2"})

        store.remove("iris", "v1")
        assert other.versions("iris") == ["v2"]

    # Names

    @pytest.mark.parametrize(
        "outside", ["..", ".", "", "../iris", "a/b", "/etc", "iris\n", "ir\0is", ".adding-x", "x" * 65]
    )
    def test_names_that_lead_out_of_the_store_are_rejected(self, store: ModelStore, outside: str) -> None:
        add(store, "v1")
        store.set_alias("iris", "latest", "v1")
        before = open_storage(store.root).find()

        for call in (store.manifest, store.versions, store.aliases):
            with pytest.raises(ModelNotFound):
                call(outside)
        for refer in (store.manifest, store.resolve, store.location, store.remove):
            with pytest.raises(ModelNotFound):
                refer("iris", outside)
        with pytest.raises(ModelError):
            add(store, outside)
        with pytest.raises(ModelError):
            add(store, "v1", name=outside)
        with pytest.raises(ModelError):
            store.set_alias("iris", "latest", outside)
        with pytest.raises(ModelError):
            store.set_alias("iris", outside, "v1")

        assert open_storage(store.root).find() == before

    @pytest.mark.parametrize("version", ["latest", "aliases", "stable"])
    def test_a_version_cannot_take_a_name_that_is_used_otherwise(self, store: ModelStore, version: str) -> None:
        add(store, "v1")
        store.set_alias("iris", "stable", "v1")

        with pytest.raises(ModelError, match="can't be a version"):
            add(store, version)

    def test_an_alias_cannot_take_the_name_of_a_version(self, store: ModelStore) -> None:
        add(store, "v1")
        add(store, "v2")

        with pytest.raises(ModelError, match="'v1' can't be an alias"):
            store.set_alias("iris", "v1", "v2")

    def test_a_version_comes_before_an_alias_of_its_name(self, store: ModelStore) -> None:
        for version in ("v1", "v2"):
            add(store, version)
        store.set_alias("iris", "next", "v2")
        storage = open_storage(store.root)
        record = b"".join(storage.parts("iris/aliases/next.json", 10_000))
        storage.replace("iris/aliases/v1.json", record)

        assert (store.resolve("iris", "v1"), store.manifest("iris", "v1").version) == ("v1", "v1")
        assert store.manifest("iris", "next").version == "v2"

    # Versions never change, and become visible when they are complete

    def test_a_version_that_exists_is_not_written_again(self, store: ModelStore) -> None:
        add(store, "v1")

        with pytest.raises(FileExistsError, match="'v1' of 'iris' exists already"):
            store.add("iris", "v1", lambda folder: pytest.fail("nobody must write"))

    def test_of_two_processes_that_add_one_version_the_first_wins(self, store: ModelStore) -> None:
        def write(folder: Path) -> None:
            add(store, "v1")
            written(folder, {**document(), "description": "mine"})
            (folder / "card.html").write_text("mine")
            (folder / "zoo.txt").write_text("mine")

        with pytest.raises(FileExistsError, match="'v1' of 'iris' exists already"):
            store.add("iris", "v1", write)

        assert open_storage(store.root).find("iris") == ["iris/v1/manifest.json", "iris/v1/model.pkl"]
        assert store.manifest("iris", "v1").description == ""

    def test_a_failed_write_leaves_nothing_behind(self, store: ModelStore) -> None:
        def write(folder: Path) -> None:
            (folder / "model.pkl").write_bytes(b"half")
            assert store.names() == []
            raise OSError("disk full")

        with pytest.raises(OSError, match="disk full"):
            store.add("iris", "v1", write)

        assert open_storage(store.root).find() == []

    def test_what_is_left_half_written_is_no_version(self, store: ModelStore) -> None:
        open_storage(store.root).replace("iris/v1/model.pkl", CONTENT[:3])

        assert store.names() == store.versions("iris") == []
        with pytest.raises(ModelNotFound):
            store.manifest("iris", "v1")
        with pytest.raises(ModelNotFound):
            store.set_alias("iris", "latest", "v1")
        with pytest.raises(FileExistsError, match="left half-written"):
            add(store, "v1")

        store.remove("iris", "v1")
        add(store, "v1")
        assert store.artifact(store.manifest("iris", "v1")) == CONTENT

    def test_a_folder_without_a_manifest_or_with_another_ones_is_not_added(self, store: ModelStore) -> None:
        with pytest.raises(ManifestInvalid, match=r"there is no manifest\.json"):
            store.add("iris", "v1", lambda folder: None)
        with pytest.raises(ManifestInvalid, match="the manifest is of iris v2"):
            store.add("iris", "v1", lambda folder: add_nothing_but(folder, "v2"))

        assert open_storage(store.root).find() == []

    # Damaged content of a store

    def test_a_tampered_artifact_is_refused(self, store: ModelStore) -> None:
        add(store, "v1")
        open_storage(store.root).replace("iris/v1/model.pkl", CONTENT + b"!")

        with pytest.raises(ArtifactInvalid, match=r"iris/v1/model\.pkl: its SHA-256 is not"):
            store.artifact(store.manifest("iris", "v1"))

    def test_a_missing_artifact_is_refused(self, store: ModelStore) -> None:
        add(store, "v1")
        open_storage(store.root).remove_folder("iris/v1", first="model.pkl")

        with pytest.raises(ArtifactInvalid, match=r"iris/v1/model\.pkl: there is no such file"):
            store.artifact(document_manifest())

    def test_a_manifest_of_another_version_is_refused(self, store: ModelStore) -> None:
        add(store, "v1")
        storage = open_storage(store.root)
        storage.replace("iris/v2/manifest.json", read_document(storage, "iris/v1/manifest.json") or b"")

        with pytest.raises(ManifestInvalid, match="the manifest is of iris v1"):
            store.manifest("iris", "v2")
        assert store.versions("iris") == ["v2", "v1"]

    @pytest.mark.parametrize(
        "content",
        [
            *(b"", b"{", b"[]", b'"v1"', b"\xff"),
            b'{"version": "../..", "moved_at": ""}',
            # A worker that starts may load each of the versions before.
            b'{"version": "v1", "moved_at": "", "previous": [%b]}' % b",".join([b'"v1"'] * 11),
        ],
    )
    def test_a_damaged_alias_is_an_invalid_manifest(self, store: ModelStore, content: bytes) -> None:
        add(store, "v1")
        open_storage(store.root).replace("iris/aliases/latest.json", content)

        with pytest.raises(ManifestInvalid, match=r"aliases/latest\.json: "):
            store.manifest("iris")
        with pytest.raises(ManifestInvalid, match=r"aliases/latest\.json: "):
            store.set_alias("iris", "latest", "v1")
        assert store.manifest("iris", "v1").version == "v1"

    def test_a_document_that_is_too_large_is_not_read(self, store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
        add(store, "v1")
        add(store, "v2")
        monkeypatch.setattr("headrace.models.storage.DOCUMENT_BYTES_MAX", 2000)
        open_storage(store.root).replace("iris/v1/manifest.json", b" " * 2001)

        with pytest.raises(FileUnusable, match=r"iris/v1/manifest\.json: it has more than 2,000 bytes"):
            store.manifest("iris", "v1")
        assert store.versions("iris") == ["v1", "v2"]
        assert store.manifest("iris", "v2").version == "v2"

    def test_a_version_whose_manifest_is_too_large_is_not_added(
        self, store: ModelStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("headrace.models.storage.DOCUMENT_BYTES_MAX", 100)

        with pytest.raises(FileUnusable, match=r"manifest\.json: it has more than 100 bytes"):
            add(store, "v1")
        assert store.names() == []

    def test_an_alias_that_is_too_large_is_not_read(self, store: ModelStore) -> None:
        add(store, "v1")
        store.set_alias("iris", "small", "v1")
        open_storage(store.root).replace("iris/aliases/large.json", b" " * (ALIAS_BYTES_MAX + 1))

        assert list(store.alias_records("iris", lambda *_: None)) == ["small"]
        with pytest.raises(FileUnusable, match=r"aliases/large\.json: it has more than 10,000 bytes"):
            store.manifest("iris", "large")

    def test_a_damaged_alias_does_not_hide_the_others(self, store: ModelStore) -> None:
        add(store, "v1")
        for alias in ("a", "b", "c"):
            store.set_alias("iris", alias, "v1")
        open_storage(store.root).replace("iris/aliases/b.json", b"{")
        damaged: list[str] = []

        records = store.alias_records("iris", lambda alias, _: damaged.append(alias))

        assert (list(records), damaged) == (["a", "c"], ["b"])
        with pytest.raises(ManifestInvalid, match=r"aliases/b\.json"):
            store.alias_records("iris")

    # Aliases

    def test_an_alias_moves_and_the_others_stay(self, store: ModelStore) -> None:
        for version in ("v1", "v2"):
            add(store, version)
        store.set_alias("iris", "latest", "v1")
        store.set_alias("iris", "stable", "v1")

        store.set_alias("iris", "latest", "v2")

        assert store.aliases("iris") == {"latest": "v2", "stable": "v1"}

    def test_an_alias_cannot_point_to_nothing(self, store: ModelStore) -> None:
        add(store, "v1")

        with pytest.raises(ModelNotFound, match="no version or alias 'v2'"):
            store.set_alias("iris", "latest", "v2")

        assert store.aliases("iris") == {}

    def test_an_alias_remembers_ten_versions(self, store: ModelStore) -> None:
        for number in range(12):
            add(store, f"v{number}")
            store.set_alias("iris", "latest", f"v{number}")
            store.set_alias("iris", "latest", f"v{number}")

        content = read_document(open_storage(store.root), "iris/aliases/latest.json") or b""
        record = Alias.parse(content, "latest")
        assert (record.version, record.previous) == ("v11", [f"v{number}" for number in range(10, 0, -1)])
        assert record.moved_at.endswith("+00:00")
        assert content.endswith(b"}\n")

    def test_rolling_back_goes_further_back_each_time(self, store: ModelStore) -> None:
        for version in ("v1", "v2", "v3"):
            add(store, version)
            store.set_alias("iris", "production", version)

        assert store.rollback("iris", "production") == "v2"
        assert store.rollback("iris", "production") == store.resolve("iris", "production") == "v1"
        with pytest.raises(ModelError, match="named no version before 'v1'"):
            store.rollback("iris", "production")
        assert store.aliases("iris") == {"production": "v1"}

    def test_rolling_back_passes_over_what_was_removed(self, store: ModelStore) -> None:
        for version in ("v1", "v2", "v3", "v2", "v3"):
            if version not in store.versions("iris"):
                add(store, version)
            store.set_alias("iris", "production", version)
        store.remove("iris", "v2")

        assert store.rollback("iris", "production") == "v1"

    def test_an_alias_that_is_not_there_cannot_be_rolled_back(self, store: ModelStore) -> None:
        add(store, "v1")

        with pytest.raises(ModelNotFound, match="no alias 'production'"):
            store.rollback("iris", "production")

    def test_readers_of_a_moving_alias_see_one_version_or_the_other(self, store: ModelStore) -> None:
        for version in ("v1", "v2"):
            add(store, version)
        store.set_alias("iris", "latest", "v1")
        seen: set[str] = set()
        failures: list[Exception] = []
        done = threading.Event()

        def read() -> None:
            reader = ModelStore(store.root)
            while not done.is_set():
                try:
                    seen.add(reader.manifest("iris").version)
                    seen.update(reader.aliases("iris").values())
                except Exception as error:
                    failures.append(error)
                    return

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for round_ in range(100_000):
            # Where moving takes microseconds, the readers would hardly get a turn.
            if failures or (round_ >= self.rounds and seen == {"v1", "v2"}):
                break
            store.set_alias("iris", "latest", "v2")
            store.set_alias("iris", "latest", "v1")
        done.set()
        for reader in readers:
            reader.join()

        assert failures == []
        assert seen == {"v1", "v2"}

    # Removing

    def test_a_version_that_an_alias_names_is_not_removed(self, store: ModelStore) -> None:
        add(store, "v1")
        store.set_alias("iris", "production", "v1")

        with pytest.raises(ModelError, match="in use as production"):
            store.remove("iris", "v1")

        assert store.versions("iris") == ["v1"]

    def test_what_is_removed_is_gone_as_a_whole(self, store: ModelStore) -> None:
        add(store, "v1")
        add(store, "v2")

        store.remove("iris", "v1")

        assert open_storage(store.root).find() == ["iris/v2/manifest.json", "iris/v2/model.pkl"]

    def test_pruning_keeps_the_newest_and_what_aliases_name(self, store: ModelStore) -> None:
        for day in range(1, 7):
            add(store, f"v{day}", created_at=f"2026-11-0{day}T00:00:00+00:00")
        store.set_alias("iris", "production", "v2")

        assert prunable(store, "iris", 2) == ["v1", "v3", "v4"]
        for version in prunable(store, "iris", 2):
            store.remove("iris", version)
        assert store.versions("iris") == ["v2", "v5", "v6"]
        assert prunable(store, "iris", 2) == []

    def test_a_signature_is_a_file_beside_the_manifest_and_can_be_another_one(self, store: ModelStore) -> None:
        add(store, "v1")
        manifest = store.manifest("iris", "v1")
        assert store.file(manifest, SIGNATURE_FILE) is None
        for signature in (b"one", b"\x00another"):
            store.sign(manifest, signature)
            assert store.file(manifest, SIGNATURE_FILE) == signature
        assert (store.names(), store.versions("iris")) == (["iris"], ["v1"])
        assert store.manifest("iris", "v1") == manifest

        store.remove("iris", "v1")

        assert open_storage(store.root).find() == []


def add_nothing_but(folder: Path, version: str) -> None:
    written(folder, {**document(), "version": version})


def document_manifest() -> Manifest:
    return Manifest.model_validate(document())
