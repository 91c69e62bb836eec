"""A second version gets a share of the traffic, or a copy of it."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

from headrace import export
from headrace.models.alias import Trial
from headrace.models.store import ModelStore
from tests.integration.conftest import NewStack
from tests.support.exposition import Scrape
from tests.support.processes import wait_for
from tests.support.stack import Stack

ROW = {"x": 1.0}


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path / "models")
    rows = np.array([[0.0], [1.0]])
    for version, answer in (("v2", "two"), ("v1", "one")):
        estimator = DummyClassifier(strategy="constant", constant=answer).fit(rows, np.array([answer, "other"]))
        export(estimator, rows, name="tried", version=version, store=store, feature_names=["x"], scores={})
    return store


@pytest.fixture
def stack(new_stack: NewStack, store: ModelStore) -> Stack:
    return new_stack(Path(store.root), DEFAULT_MODEL="tried").start()


def trials(stack: Stack) -> Any:
    return stack.http.get("/model-info").json()["trials"]


def test_a_split_answers_a_share_and_sticks_to_its_key(stack: Stack, store: ModelStore) -> None:
    store.set_trials("tried", "latest", split=Trial(version="v2", share=0.5), shadow=None)
    wait_for("the split", lambda: trials(stack))
    versions = Counter(stack.predict(ROW).json()["version"] for _ in range(200))
    assert 50 < versions["v2"] < 150
    by_key: dict[str, str] = {}
    for _ in range(3):
        for user in map(str, range(20)):
            answer = stack.predict(ROW, headers={"X-Split-Key": user}).json()
            assert by_key.setdefault(user, answer["version"]) == answer["version"]
            assert answer["prediction"] == {"v1": "one", "v2": "two"}[answer["version"]]
    assert set(by_key.values()) == {"v1", "v2"}
    # A caller that names a version gets that one.
    assert {stack.http.post("/models/tried/versions/v1/predict", json=ROW).json()["version"] for _ in range(20)} == {
        "v1"
    }
    store.set_trials("tried", "latest", split=None, shadow=None)
    wait_for("its end", lambda: not trials(stack))
    assert {stack.predict(ROW).json()["version"] for _ in range(50)} == {"v1"}


def test_a_shadow_is_compared_and_never_answers(stack: Stack, store: ModelStore) -> None:
    store.set_trials("tried", "latest", split=None, shadow=Trial(version="v2", share=1.0))
    wait_for("the shadow", lambda: trials(stack))
    assert {stack.predict(ROW).json()["version"] for _ in range(50)} == {"v1"}

    def compared() -> bool:
        seen = Scrape(f"http://127.0.0.1:{stack.metrics_ports[0]}/metrics")
        labels = {"model": "tried", "version": "v1", "shadow": "v2", "agreement": "different"}
        return "inference_shadow_rows_total" in seen.names and seen.total("inference_shadow_rows_total", **labels) == 50

    wait_for("all 50 rows are compared", compared)
    assert stack.jobs()["accepted"] == 0


def test_a_promotion_ends_trials(stack: Stack, store: ModelStore) -> None:
    store.set_trials("tried", "latest", split=Trial(version="v2", share=0.5), shadow=None)
    wait_for("the split", lambda: trials(stack))
    store.set_alias("tried", "latest", "v2")
    wait_for("its end", lambda: not trials(stack))
    wait_for("v2", lambda: {stack.predict(ROW).json()["version"] for _ in range(20)} == {"v2"})
