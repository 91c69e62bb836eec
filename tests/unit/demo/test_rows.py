"""Drawn rows against their reference distributions, by the drift measure of the alerts; messages without a stack."""

import json
from bisect import bisect_left
from collections import Counter
from typing import Any

import httpx
import pytest

from demo.__main__ import main
from demo.rows import Model, Row, Sampler
from headrace.data.features import describe
from headrace.data.table import read_table
from headrace.models.manifest import OTHER_BIN, Feature
from monitoring.drift import PSI_MAX, psi, psi_noise, smoothed_shares
from tests.support import manifests
from tests.support.estimators import people
from tests.support.processes import free_port

ROWS = 3_000
# The reference counts as known exactly.
EXACT = 1e9


@pytest.fixture(scope="module")
def mixed() -> Model:
    """A model of numbers, texts and booleans, each of them sometimes missing, described as an export does it."""
    frame, _ = people(2_000)
    return Model("people", "v1", "", [describe(column) for column in read_table(object(), frame).columns], [])


def bin_of(feature: Feature, value: Any) -> str:
    """Return the bin in which a worker counts a value."""
    if value is None:
        return feature.reference.bins[-1]
    if feature.reference.edges is not None:
        return feature.reference.bins[bisect_left(feature.reference.edges, value)]
    return str(value) if str(value) in feature.reference.bins else OTHER_BIN


def distance(feature: Feature, rows: list[Row]) -> float:
    counts = Counter(bin_of(feature, row[feature.name]) for row in rows)
    return psi(smoothed_shares([counts[bin_] for bin_ in feature.reference.bins]), feature.reference.ratios)


def drawn(model: Model, drifting: str | None = None, drift: float = 0.0) -> list[Row]:
    sampler = Sampler(model, 1, drifting, 2.5)
    return [sampler.row(drift) for _ in range(ROWS)]


@pytest.mark.parametrize("name", ["age", "income", "city", "plan", "member", "owner"])
def test_only_the_feature_that_drifts_leaves_its_reference(mixed: Model, name: str) -> None:
    still, moved = drawn(mixed), drawn(mixed, name, drift=1.0)
    assert drawn(mixed) == still
    for feature in mixed.features:
        noise = psi_noise(len(feature.reference.bins), ROWS, EXACT, level=0.9999)
        assert distance(feature, still) < noise
        assert distance(feature, moved) > PSI_MAX if feature.name == name else distance(feature, moved) < noise


def test_numbers_stay_in_the_training_range_and_whole_ones_whole(mixed: Model) -> None:
    rows = drawn(mixed)
    for feature in mixed.features[:2]:
        values = [row[feature.name] for row in rows if row[feature.name] is not None]
        assert feature.minimum is not None and feature.maximum is not None
        assert feature.minimum <= min(values) and max(values) <= feature.maximum
    assert all(row["age"].is_integer() for row in rows + drawn(mixed, "age", drift=0.3))
    assert not all(row["income"].is_integer() for row in rows if row["income"] is not None)


def test_a_demo_without_a_stack_says_how_to_start_one(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert main(["--url", url]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"headrace: nothing listens on {url}: start the stack with `make up`")
    assert error.count("\n") == 1


INFO = manifests.classifier().model_dump(mode="json", include={"name", "version", "features", "samples"})


@pytest.mark.parametrize(
    ("status", "body", "options", "message"),
    [
        (200, b"<html>", [], "is that the gateway?"),
        (502, b"", [], "answers 502: is that the gateway?"),
        (404, b"{}", ["--model", "none"], "serves no model 'none'; GET /models lists"),
        (200, json.dumps(INFO).encode(), ["--drift", "depth"], "there is length, width"),
    ],
)
def test_a_wrong_address_or_name_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    status: int,
    body: bytes,
    options: list[str],
    message: str,
) -> None:
    answering = httpx.MockTransport(lambda _: httpx.Response(status, content=body))
    monkeypatch.setattr("demo.__main__.connect", lambda url: httpx.AsyncClient(base_url=url, transport=answering))
    assert main(options) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
