"""Gateways and workers with a public key serve the versions that the key has signed, and no others."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.tree import DecisionTreeClassifier

from headrace import export
from headrace.models.signing import sign
from headrace.models.store import ModelStore
from tests.integration.conftest import NewStack
from tests.support.exposition import Scrape
from tests.support.processes import REPOSITORY, wait_for
from tests.support.signing import public_file, signing_key


def add_version(store: ModelStore, version: str) -> None:
    rows = np.array([[0.0], [1.0]])
    estimator = DummyClassifier(strategy="constant", constant=version).fit(rows, np.array([version, "other"]))
    export(estimator, rows, name="m", version=version, store=store, feature_names=["x"], scores={})


def promote(store: ModelStore, version: str, *options: str) -> None:
    command = [sys.executable, "-m", "headrace", "promote", "m", version, "--store", store.root, *options]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=60)


def test_only_what_is_signed_serves(new_stack: NewStack, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    key, public = signing_key(tmp_path / "model.key")
    add_version(store, "v1")
    keys = public_file(tmp_path / "model.pub", public)
    stack = new_stack(Path(store.root), DEFAULT_MODEL="m", MODEL_PUBLIC_KEY=str(keys))
    [worker] = stack.workers

    worker.start()
    wait_for("the worker without a signed model ends", lambda: not worker.running)
    assert worker.stop() == 1
    [line] = [line for line in worker.log().splitlines() if line.startswith("headrace: ")]
    assert "it is not signed, and MODEL_PUBLIC_KEY asks for that" in line
    assert "Traceback" not in worker.log()
    stack.gateway.start()
    wait_for("the gateway without a signed model ends", lambda: not stack.gateway.running)
    assert stack.gateway.stop() == 1
    assert "it is not signed, and MODEL_PUBLIC_KEY asks for that" in stack.gateway.log()
    assert "Traceback" not in stack.gateway.log()

    promote(store, "v1", "--sign", str(key))
    stack.start()
    assert stack.predict({"x": 1.0}).json()["prediction"] == "v1"

    add_version(store, "v2")
    promote(store, "v2")

    def refused() -> Any:
        return stack.http.get("/model-info").json()["moving"].get("production", {}).get("refused")

    [reason] = wait_for("the refusal is reported", refused)
    assert "it is not signed" in reason
    assert stack.predict({"x": 1.0}).json()["prediction"] == "v1"
    assert any("refused m v2" in line and "it is not signed" in line for line in worker.log().splitlines())
    counted = Scrape(f"http://127.0.0.1:{stack.metrics_ports[0]}/metrics")
    assert counted.total("inference_model_loads_total", model="m", outcome="refused") >= 1


def test_features_of_a_signed_version_cannot_be_swapped(new_stack: NewStack, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "models")
    key, public = signing_key(tmp_path / "model.key")
    rows = np.array([[0.0, 1.0], [1.0, 0.0]])
    for name in ("m", "swapped"):
        export(DecisionTreeClassifier().fit(rows, ["no", "yes"]), rows, name=name, store=store, scores={})
    versions = {name: sign(store, name, "latest", key).version for name in ("m", "swapped")}
    manifest = tmp_path / "models/swapped" / versions["swapped"] / "manifest.json"
    signed = manifest.read_text()
    document = json.loads(signed)
    document["features"].reverse()
    keys = public_file(tmp_path / "model.pub", public)
    stack = new_stack(Path(store.root), DEFAULT_MODEL="m", MODEL_PUBLIC_KEY=str(keys)).start()
    row = {document["features"][0]["name"]: 0.0, document["features"][1]["name"]: 1.0}

    manifest.write_text(json.dumps(document))
    answer = stack.http.post("/models/swapped/predict", json=row)
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:headrace:problem:model_unavailable")
    assert "none of the keys in MODEL_PUBLIC_KEY has signed it as it is" in stack.gateway.log()

    manifest.write_text(signed)
    # A refusal is remembered for some seconds.
    ask = partial(stack.http.post, "/models/swapped/predict", json=row)
    wait_for("the version is read again", lambda: ask().status_code == 200)
    assert ask().json()["prediction"] == "yes"
