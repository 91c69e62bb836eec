"""Files in the directory of a store that are no files to be read: each ends with an error, and hides no other."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace.cli.main import main
from headrace.errors import ArtifactInvalid, FileUnusable, ModelError
from headrace.models.golden import golden_rows
from headrace.models.local_storage import LocalStorage, regular_file_parts
from headrace.models.manifest import GoldenRows
from headrace.models.store import ModelStore
from tests.support.store_contract import add
from tests.unit.headrace.models.test_manifest import CONTENT

pytestmark = pytest.mark.timeout(20)


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_a_name_too_long(path: Path) -> None:
    path.symlink_to("a" * 300)


def link_to_memory(path: Path) -> None:
    # A regular file, but reading its start is an error of input and output.
    path.symlink_to("/proc/self/mem")


def listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        # The path of a socket has a limit of about a hundred characters.
        folder = os.open(path.parent, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.close(folder)


def terabyte(path: Path) -> None:
    path.touch()
    os.truncate(path, 10**12)


LINKS = [link_to_itself, link_to_a_device, link_to_a_name_too_long, link_to_memory]
KINDS = [os.mkfifo, *LINKS, listen, terabyte]


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path / "models")
    add(store, "v1")
    add(store, "v2")
    store.set_alias("iris", "production", "v1")
    store.set_alias("iris", "spoilt", "v2")
    add(store, "v1", name="other")
    return store


def spoil(store: ModelStore, path: str, make: Callable[[Path], None]) -> None:
    file = Path(store.root, path)
    file.unlink(missing_ok=True)
    make(file)


@pytest.mark.parametrize("make", KINDS)
def test_a_manifest(store: ModelStore, make: Callable[[Path], None]) -> None:
    spoil(store, "iris/v2/manifest.json", make)

    with pytest.raises(FileUnusable, match=r"iris/v2/manifest\.json: ") as caught:
        store.manifest("iris", "v2")
    assert "\n" not in str(caught.value)
    assert store.names() == ["iris", "other"]
    assert store.versions("iris") == ["v2", "v1"]
    assert store.manifest("iris", "v1").version == "v1"
    assert main(["list", "--store", store.root]) == 0


@pytest.mark.parametrize("make", KINDS)
def test_an_alias(store: ModelStore, make: Callable[[Path], None]) -> None:
    spoil(store, "iris/aliases/spoilt.json", make)

    with pytest.raises(FileUnusable, match=r"aliases/spoilt\.json: "):
        store.manifest("iris", "spoilt")
    assert store.manifest("iris", "production").version == "v1"
    assert list(store.alias_records("iris", lambda *_: None)) == ["production"]


@pytest.mark.parametrize("make", KINDS)
def test_an_artifact(store: ModelStore, make: Callable[[Path], None]) -> None:
    manifest = store.manifest("iris", "v1")
    spoil(store, "iris/v1/model.pkl", make)

    with pytest.raises((ArtifactInvalid, FileUnusable), match=r"iris/v1/model\.pkl: "):
        store.artifact(manifest)


@pytest.mark.parametrize("make", KINDS)
def test_golden_rows(store: ModelStore, make: Callable[[Path], None]) -> None:
    golden = GoldenRows(file="golden.json", sha256="0" * 64)
    manifest = store.manifest("iris", "v1").model_copy(update={"golden": golden})
    spoil(store, "iris/v1/golden.json", make)

    with pytest.raises((ArtifactInvalid, FileUnusable), match=r"iris/v1/golden\.json: "):
        golden_rows(store, manifest)


def test_of_a_longer_artifact_no_more_is_read_than_the_manifest_says(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = store.manifest("iris", "v1")
    spoil(store, "iris/v1/model.pkl", terabyte)
    read: list[int] = []
    monkeypatch.setattr(
        "headrace.models.local_storage.regular_file_parts",
        lambda *options: (read.append(len(part)) or part for part in regular_file_parts(*options)),  # type: ignore[func-returns-value]
    )

    with pytest.raises(ArtifactInvalid, match="SHA-256"):
        store.artifact(manifest)
    assert sum(read) == len(CONTENT) + 1


@pytest.mark.parametrize("error", [errno.EACCES, errno.ENXIO, errno.EPERM, errno.EOVERFLOW])
def test_a_file_that_this_process_may_not_read(store: ModelStore, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    opened = os.open

    def refuse(path: Path, *options: Any, **named: Any) -> int:
        if str(path).endswith("v2/manifest.json"):
            raise OSError(error, os.strerror(error), str(path))
        return opened(path, *options, **named)

    monkeypatch.setattr("headrace.models.local_storage.os.open", refuse)

    assert store.versions("iris") == ["v2", "v1"]
    with pytest.raises(FileUnusable, match=os.strerror(error)):
        store.manifest("iris", "v2")


LOOPS = [
    ("loop", "."),
    ("iris/loop", ".."),
    ("iris/v1/loop", "../.."),
    ("iris/aliases/loop", ".."),
    ("iris/loop", "loop"),
    ("loop", "loop"),
]


@pytest.mark.parametrize(("link", "target"), LOOPS)
def test_links_in_a_circle_end(store: ModelStore, link: str, target: str) -> None:
    # A second link doubles the paths at each level, of which there are forty before the system refuses more.
    for each in (link, f"{link}2"):
        Path(store.root, each).symlink_to(target)

    assert {"iris", "other"} <= set(store.names())
    assert {"v1", "v2"} <= set(store.versions("iris"))
    assert store.aliases("iris") == {"production": "v1", "spoilt": "v2"}
    assert store.manifest("iris", "production").version == "v1"


def test_many_links_in_a_circle_cost_no_more_than_one(store: ModelStore) -> None:
    for at in range(400):
        Path(store.root, f"l{at:03d}").symlink_to(".")
        Path(store.root, "iris", f"l{at:03d}").symlink_to("../iris")

    assert "iris" in store.names()
    assert store.versions("iris") == ["v1", "v2"]
    assert len(LocalStorage(Path(store.root)).find()) < 50


def test_a_model_that_is_a_link_is_found(store: ModelStore, tmp_path: Path) -> None:
    Path(store.root, "iris").rename(tmp_path / "elsewhere")
    Path(store.root, "iris").symlink_to(tmp_path / "elsewhere")

    assert store.names() == ["iris", "other"]
    assert store.versions("iris") == ["v1", "v2"]


def test_a_folder_of_aliases_that_is_a_link_to_itself_is_named(store: ModelStore) -> None:
    aliases = Path(store.root, "other", "aliases")
    aliases.symlink_to(aliases)

    with pytest.raises(ModelError, match=r"other/aliases.*: Too many levels of symbolic links"):
        store.aliases("other")
    assert store.names() == ["iris", "other"]


@pytest.mark.parametrize("make", LINKS)
@pytest.mark.parametrize("link", ["x", "iris/x", "iris/v1/x", "iris/aliases/x"])
def test_a_link_hides_nothing_beside_it(store: ModelStore, link: str, make: Callable[[Path], None]) -> None:
    make(Path(store.root, link))

    assert store.names() == ["iris", "other"]
    assert set(store.versions("iris")) == {"v1", "v2"}
    assert store.aliases("iris") == {"production": "v1", "spoilt": "v2"}
    assert main(["list", "--store", store.root]) == 0


def test_a_file_in_the_place_of_a_folder_harms_one_model_alone(store: ModelStore) -> None:
    Path(store.root, "other", "aliases").write_text("no folder")
    spoil(store, "iris/aliases/spoilt.json", lambda path: path.symlink_to("/etc/passwd/x"))

    with pytest.raises(FileUnusable, match="other/aliases: Not a directory"):
        store.aliases("other")
    assert list(store.alias_records("iris", lambda *_: None)) == ["production"]
    assert main(["list", "--store", store.root]) == 0
    assert not ModelStore(Path(store.root, "a" * 300)).exists()
