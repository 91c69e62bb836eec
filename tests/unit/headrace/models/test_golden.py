import hashlib
from pathlib import Path

import pytest

from headrace.errors import ArtifactInvalid
from headrace.models.fields import PARTS_MAX
from headrace.models.golden import golden_rows, write_golden_rows
from headrace.models.manifest import SAMPLES_MAX, GoldenRows, Manifest, Sample
from headrace.models.store import ModelStore
from tests.support.store_contract import add

ROW = Sample(row=[1.0, 2.0], prediction=1)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path / "models")
    add(store, "v1")
    return store


def with_golden_rows(store: ModelStore, content: bytes) -> Manifest:
    Path(store.location("iris", "v1"), "golden.json").write_bytes(content)
    golden = GoldenRows(file="golden.json", sha256=hashlib.sha256(content).hexdigest())
    return store.manifest("iris", "v1").model_copy(update={"golden": golden})


@pytest.mark.parametrize("part", [b"0", b"[]", b"{}"])
def test_a_file_of_too_many_parts_is_not_parsed(store: ModelStore, part: bytes) -> None:
    manifest = with_golden_rows(store, b"[%b]" % b",".join([part] * (PARTS_MAX + 2)))

    with pytest.raises(ArtifactInvalid, match="more than 800,000 values"):
        golden_rows(store, manifest)


@pytest.mark.parametrize(("n_rows", "is_read"), [(SAMPLES_MAX, True), (SAMPLES_MAX + 1, False)])
def test_a_file_has_a_limit_of_rows(store: ModelStore, n_rows: int, is_read: bool) -> None:
    manifest = with_golden_rows(store, b"[%b]" % b",".join([ROW.model_dump_json().encode()] * n_rows))

    if is_read:
        assert golden_rows(store, manifest) == [ROW] * n_rows
    else:
        with pytest.raises(ArtifactInvalid, match="does not hold rows"):
            golden_rows(store, manifest)


@pytest.mark.parametrize(("parts_max", "n_rows"), [(8, 1), (1, 0)])
def test_no_more_rows_are_written_than_are_read(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, parts_max: int, n_rows: int
) -> None:
    monkeypatch.setattr("headrace.models.fields.PARTS_MAX", parts_max)
    folder = Path(store.location("iris", "v1"))

    golden = write_golden_rows(folder, [ROW] * 8)

    monkeypatch.undo()
    assert golden_rows(store, store.manifest("iris", "v1").model_copy(update={"golden": golden})) == [ROW] * n_rows
