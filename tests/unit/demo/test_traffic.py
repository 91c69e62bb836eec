"""Calls against the gateway's own validation: what is meant to be right is, and what is meant to be wrong is not."""

import json
from collections import Counter

import pytest

from demo import traffic
from demo.model import Model
from demo.sampler import Sampler
from demo.traffic import Call, Traffic
from gateway.catalog.row_parser import RowParser
from gateway.problems import Problem
from headrace.models.manifest import Sample
from tests.support import manifests

MANIFEST = manifests.mixed(
    manifests.feature("length", nullable=True), manifests.text("colour", nullable=True), manifests.flag("new")
)


def calls(number: int, errors: float, jobs: float) -> list[Call]:
    samples = [Sample(row=[1.0, "red", True], prediction=1.0)]
    model = Model("sticks", "v1", "/models/sticks", MANIFEST.features, samples)
    made = Traffic(model, Sampler(model, 1, None, 2.5), 1, errors, jobs)
    return [made.call(drift=0.5) for _ in range(number)]


def status(call: Call) -> int:
    try:
        RowParser(MANIFEST, 100).parse(call.body)
    except Problem as problem:
        return problem.status
    return 200


def test_good_calls_are_rows_of_the_model() -> None:
    made = calls(200, errors=0, jobs=0.3)
    assert {call.kind for call in made} == {traffic.ROW, traffic.ROWS, traffic.JOB}
    assert {status(call) for call in made} == {200}
    for call in made:
        assert call.path == f"/models/sticks/{'jobs' if call.kind == traffic.JOB else 'predict'}"
        assert ("instances" in json.loads(call.body)) == (call.kind != traffic.ROW)


def test_wrong_calls_are_wrong_in_the_way_they_say() -> None:
    made = calls(200, errors=1, jobs=0.3)
    assert {call.kind for call in made} == set(traffic.WRONG)
    found = {(call.kind, status(call)) for call in made}
    assert found == {
        (traffic.INVALID, 422),
        (traffic.BAD_JSON, 400),
        (traffic.UNKNOWN_MODEL, 200),
        (traffic.TIGHT, 200),
    }
    paths = {call.path for call in made if call.kind == traffic.UNKNOWN_MODEL}
    assert paths == {"/models/nobody-serves-this/predict"}
    assert all("?deadline=0.0001" in call.path for call in made if call.kind == traffic.TIGHT)


def test_shares_are_as_asked() -> None:
    counts = Counter(call.kind for call in calls(4_000, errors=0.1, jobs=0.5))
    assert sum(counts[kind] for kind in traffic.WRONG) == pytest.approx(400, rel=0.2)
    assert counts[traffic.JOB] == pytest.approx(1_800, rel=0.1)
    cancelled = sum(call.cancel for call in calls(2_000, errors=0, jobs=1))
    assert cancelled == pytest.approx(2_000 * traffic.CANCEL_CHANCE, rel=0.2)


def test_the_default_model_has_no_prefix(sticks: Model) -> None:
    made = Traffic(sticks, Sampler(sticks, 1, None, 2.5), 1, 0, 0).call(0)
    assert made.path == "/predict"
