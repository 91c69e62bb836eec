"""Comparison of the sums with those of prometheus-client's MultiProcessCollector."""

import random
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector

from shared.observability.multiprocess_sums import Sums

BOUNDS = ("-1.5", "0.1", "2.5", "10.0", "+Inf")


def write(path: Path, *entries: tuple[str, str, dict[str, str], float]) -> None:
    """Write a file of entries: metric, sample, labels, value."""
    file = MmapedDict(str(path))  # type: ignore[no-untyped-call]
    for metric, sample, labels, value in entries:
        key = mmap_key(metric, sample, list(labels), list(labels.values()), f"Help of {metric}.")
        file.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    file.close()  # type: ignore[no-untyped-call]


def histogram(name: str, labels: dict[str, str], counts: list[float]) -> list[Any]:
    buckets = [
        (name, f"{name}_bucket", {**labels, "le": bound}, count) for bound, count in zip(BOUNDS, counts, strict=True)
    ]
    return [(name, f"{name}_sum", labels, sum(counts) * 0.5), *buckets]


def plain(families: Any) -> dict[str, Any]:
    return {
        family.name: (
            family.type,
            family.documentation,
            {(sample.name, *sorted(sample.labels.items())): sample.value for sample in family.samples},
        )
        for family in families
    }


def theirs(folder: Path) -> dict[str, Any]:
    return plain(MultiProcessCollector(None, str(folder)).collect())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("seed", range(5))
def test_the_sums_equal_those_of_prometheus_client(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)

    def some() -> float:
        return float(chance.randint(0, 9))

    for shard in ("slot0", "slot1", "slot2", "main7"):
        models = chance.sample(["a", "b", 'ü"\\\n', ""], chance.randint(1, 4))
        write(tmp_path / f"counter_{shard}.db", *[("c", "c_total", {"model": each}, some()) for each in models])
        write(tmp_path / f"gauge_livesum_{shard}.db", ("busy", "busy", {}, some()))
        write(tmp_path / f"gauge_max_{shard}.db", *[("top", "top", {"model": each}, -some()) for each in models])
        write(tmp_path / f"gauge_livemax_{shard}.db", ("limit", "limit", {}, some()))
        entries = [
            entry
            for each in models
            for entry in histogram("h", {"model": each, "feature": "f"}, [some() for _ in BOUNDS])
        ]
        write(tmp_path / f"histogram_{shard}.db", *entries)
    sums = Sums(tmp_path)

    assert plain(sums.collect()) == theirs(tmp_path)
    write(tmp_path / "counter_slot0.db", ("new", "new_total", {}, 3.0), ("c", "c_total", {"model": "a"}, 77.0))
    assert plain(sums.collect()) == theirs(tmp_path), "keys that are known, and one that is new"


def test_samples_of_a_label_set_stand_together_with_rising_buckets(tmp_path: Path) -> None:
    for shard, models in (("slot0", "ab"), ("slot1", "ba")):
        entries = [entry for each in models for entry in reversed(histogram("h", {"model": each}, [1.0] * len(BOUNDS)))]
        write(tmp_path / f"histogram_{shard}.db", *entries)

    [family] = Sums(tmp_path).collect()

    order = [(sample.labels["model"], sample.labels.get("le", "")) for sample in family.samples]
    assert order == [(model, bound) for model in "ab" for bound in (*BOUNDS, "", "")]
    assert [sample.value for sample in family.samples if sample.name == "h_bucket"] == [2, 4, 6, 8, 10] * 2


def test_a_file_that_grows_past_its_first_page_is_read_to_its_end(tmp_path: Path) -> None:
    write(tmp_path / "counter_slot0.db", *[("c", "c_total", {"n": str(i)}, 1.0) for i in range(2000)])

    [family] = Sums(tmp_path).collect()

    assert len(family.samples) == 2000


def test_an_info_that_is_0_in_all_processes_is_left_out(tmp_path: Path) -> None:
    def info(version: str, value: float) -> tuple[str, str, dict[str, str], float]:
        return "model_info", "model_info", {"version": version}, value

    write(tmp_path / "gauge_livemax_slot0.db", info("v1", 0.0), info("v2", 0.0))
    write(tmp_path / "gauge_livemax_slot1.db", info("v1", 0.0), info("v2", 1.0))

    [family] = Sums(tmp_path).collect()

    assert [(sample.labels, sample.value) for sample in family.samples] == [({"version": "v2"}, 1)]


@pytest.mark.parametrize("content", [b"", b"\0\0\0", b"\0" * 65_536])
def test_a_file_that_was_just_created_is_empty(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "counter_slot0.db").write_bytes(content)

    assert list(Sums(tmp_path).collect()) == []


def test_a_corrupt_file_is_named(tmp_path: Path) -> None:
    write(tmp_path / "counter_slot0.db", ("c", "c_total", {}, 1.0))
    whole = (tmp_path / "counter_slot0.db").read_bytes()
    (tmp_path / "counter_slot0.db").write_bytes(whole[:24])

    with pytest.raises(RuntimeError, match=r"counter_slot0\.db is corrupt"):
        list(Sums(tmp_path).collect())


def test_gauges_with_a_series_per_process_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "gauge_all_slot0.db", ("g", "g", {}, 1.0))

    with pytest.raises(ValueError, match="gauge_all_slot0"):
        list(Sums(tmp_path).collect())


def test_a_file_that_vanishes_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gauge_livesum_slot0.db"
    monkeypatch.setattr(Path, "glob", lambda *_: [gone])

    families: list[Metric] = list(Sums(tmp_path).collect())

    assert families == []
