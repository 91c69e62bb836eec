"""A second version gets a share of the traffic, or a copy of it."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.tree import DecisionTreeClassifier

from headrace import export
from headrace.models.alias import Trial
from headrace.models.store import ModelStore
from tests.support.exposition import Scrape
from tests.support.processes import wait_for
from tests.support.stack import Stack

ROW = {"x": 1.0}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """Return a store with a model for each test."""
    store = ModelStore(tmp_path_factory.mktemp("models"))
    rows = np.array([[0.0], [1.0]])
    for version, answer in (("v2", "two"), ("v1", "one")):
        estimator = DummyClassifier(strategy="constant", constant=answer).fit(rows, np.array([answer, "other"]))
        for name in ("split", "shadowed", "promoted"):
            export(estimator, rows, name=name, version=version, store=store, feature_names=["x"], scores={})
    return store


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, store: ModelStore) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"), Path(store.root), DEFAULT_MODEL="split")
    try:
        stack.start()
        # Workers prepare a trial of a model that they have loaded.
        for model in ("split", "shadowed", "promoted"):
            assert set(versions(stack, model, 1)) == {"v1"}
        yield stack
    finally:
        stack.close()


def trials(stack: Stack, model: str) -> Any:
    return stack.http.get(f"/models/{model}").json()["trials"]


def predict(stack: Stack, model: str, **options: Any) -> Any:
    return stack.http.post(f"/models/{model}/predict", json=ROW, **options).json()


def versions(stack: Stack, model: str, calls: int) -> Counter[str]:
    """Return the number of answers by version."""
    return Counter(predict(stack, model)["version"] for _ in range(calls))


def test_a_split_answers_a_share_and_sticks_to_its_key(stack: Stack, store: ModelStore) -> None:
    store.set_trials("split", "latest", split=Trial(version="v2", share=0.5), shadow=None)
    wait_for("the split", lambda: trials(stack, "split"))
    assert 50 < versions(stack, "split", 200)["v2"] < 150
    by_key: dict[str, str] = {}
    for _ in range(3):
        for user in map(str, range(20)):
            answer = predict(stack, "split", headers={"X-Split-Key": user})
            assert by_key.setdefault(user, answer["version"]) == answer["version"]
            assert answer["prediction"] == {"v1": "one", "v2": "two"}[answer["version"]]
    assert set(by_key.values()) == {"v1", "v2"}
    # A caller that names a version gets that one.
    named = [stack.http.post("/models/split/versions/v1/predict", json=ROW).json()["version"] for _ in range(20)]
    assert set(named) == {"v1"}
    store.set_trials("split", "latest", split=None, shadow=None)
    wait_for("its end", lambda: not trials(stack, "split"))
    assert set(versions(stack, "split", 50)) == {"v1"}


def test_a_shadow_is_compared_and_never_answers(stack: Stack, store: ModelStore) -> None:
    store.set_trials("shadowed", "latest", split=None, shadow=Trial(version="v2", share=1.0))
    wait_for("the shadow", lambda: trials(stack, "shadowed"))
    assert set(versions(stack, "shadowed", 50)) == {"v1"}

    def compared() -> bool:
        seen = Scrape(f"http://127.0.0.1:{stack.metrics_ports[0]}/metrics")
        labels = {"model": "shadowed", "version": "v1", "shadow": "v2", "agreement": "different"}
        return "inference_shadow_rows_total" in seen.names and seen.total("inference_shadow_rows_total", **labels) == 50

    wait_for("all 50 rows are compared", compared)
    assert stack.jobs()["accepted"] == 0


def test_a_shadow_gets_the_columns_in_its_own_order(stack: Stack, store: ModelStore) -> None:
    columns = pd.DataFrame({"a": [0.0, 1.0, 0.0, 1.0], "b": [5.0, 5.0, 9.0, 9.0]})
    for version, names in (("v2", ["b", "a"]), ("v1", ["a", "b"])):
        estimator = DecisionTreeClassifier().fit(columns[names], ["no", "yes", "no", "yes"])
        export(estimator, columns[names], name="ordered", version=version, store=store, scores={})
    rows = {"instances": columns.to_dict("records")}

    def answer() -> bool:
        return bool(stack.http.post("/models/ordered/predict", json=rows).json().get("version") == "v1")

    wait_for("v1", answer)
    store.set_trials("ordered", "latest", split=None, shadow=Trial(version="v2", share=1.0))
    wait_for("the shadow", lambda: trials(stack, "ordered"))
    assert answer()

    def compared() -> Counter[str]:
        seen = Scrape(f"http://127.0.0.1:{stack.metrics_ports[0]}/metrics")
        name, labels = "inference_shadow_rows_total", {"model": "ordered", "version": "v1", "shadow": "v2"}
        if name not in seen.names or "ordered" not in seen.label_values(name, "model"):
            return Counter()
        return Counter({word: seen.total(name, **labels, agreement=word) for word in ("same", "different", "failed")})

    wait_for("the rows are compared", lambda: compared().total())
    assert +compared() == {"same": 4}


def test_a_promotion_ends_trials(stack: Stack, store: ModelStore) -> None:
    store.set_trials("promoted", "latest", split=Trial(version="v2", share=0.5), shadow=None)
    wait_for("the split", lambda: trials(stack, "promoted"))
    store.set_alias("promoted", "latest", "v2")
    wait_for("its end", lambda: not trials(stack, "promoted"))
    wait_for("v2", lambda: set(versions(stack, "promoted", 20)) == {"v2"})
