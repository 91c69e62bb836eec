"""Workers that serve only one model."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

from headrace import export
from headrace.models.store import ModelStore
from tests.integration.conftest import NewStack
from tests.support.processes import wait_for

ROW = {"x": 1.0}


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path / "models")
    rows = np.array([[0.0], [1.0]])
    for name in ("common", "special"):
        estimator = DummyClassifier(strategy="constant", constant=name).fit(rows, np.array([name, "other"]))
        export(estimator, rows, name=name, store=store, feature_names=["x"], scores={})
    return store


def test_a_pinned_worker_takes_its_model_over_and_gives_it_back(new_stack: NewStack, store: ModelStore) -> None:
    stack = new_stack(Path(store.root), DEFAULT_MODEL="common").start()
    special = stack.new_worker(WORKER_MODELS="special")
    stack.workers.append(special)

    def loaded_by() -> list[str]:
        answer = stack.http.post("/models/special/predict", json=ROW)
        assert (answer.status_code, answer.json()["prediction"]) == (200, "special")
        names: list[str] = stack.http.get("/models/special").json()["loaded_by"]
        return names

    special.start()
    wait_for("the pinned worker serves", lambda: any(str(special.pid) in name for name in loaded_by()))
    assert stack.predict(ROW).json()["prediction"] == "common"
    job = stack.http.post("/models/special/jobs", json=ROW).json()["id"]
    assert stack.outcome(job)["result"]["prediction"] == "special"
    signals = stack.http.get("/scaling").json()["worker_groups"]
    assert [(each["models"], each["workers"]) for each in signals] == [([], 1), (["special"], 1)]
    # Only the pinned worker is left: its model is served, and callers of the others get an error.
    stack.workers[0].stop()
    assert stack.predict(ROW, params={"deadline": 1}).status_code == 503
    assert stack.http.post("/models/special/predict", json=ROW).status_code == 200
    # Only the common worker is left: it loads the model on demand.
    special.stop()
    stack.workers[0].start()
    stack.wait_ready()
    assert stack.http.post("/models/special/predict", json=ROW).json()["prediction"] == "special"
