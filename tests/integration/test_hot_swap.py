"""Versions are promoted and rolled back under load: callers notice only the version in their answers."""

import hashlib
import json
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import StackingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from headrace import export
from headrace.models.store import ModelStore
from tests.support.exposition import Scrape
from tests.support.processes import wait_for
from tests.support.puppet import Deadly, Endless, Table
from tests.support.stack import Stack

SWAP_SECONDS = float(os.environ.get("HEADRACE_SWAP_SECONDS", "12"))
"""Duration of the load in seconds; 600 in the long run."""

LOAD_SECONDS = 12.0
"""Seconds after which the load of a version ends its process; those of the models here take less than one."""

SWAP_EVERY_SECONDS = 5.0 if SWAP_SECONDS >= 60 else 2.0
ROW = {"x": 1.0}
ANSWERS = {"v1": "one", "v2": "two"}


def add_version(store: ModelStore, version: str, answer: str, alias: str | None = None, name: str = "swapped") -> None:
    """Add a version that always gives this answer."""
    rows = np.array([[0.0], [1.0]])
    estimator = DummyClassifier(strategy="constant", constant=answer).fit(rows, np.array([answer, "other"]))
    export(
        estimator,
        rows,
        name=name,
        version=version,
        store=store,
        alias=alias,
        feature_names=["x"],
        scores={},
        format="joblib",
    )


@pytest.fixture(scope="module")
def swap_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    store = ModelStore(tmp_path_factory.mktemp("swapped"))
    add_version(store, "v1", "one", alias="production")
    add_version(store, "v2", "two")
    stack = Stack(
        tmp_path_factory.mktemp("stack"),
        Path(store.root),
        DEFAULT_MODEL="swapped",
        WORKER_MEMORY_BUDGET_BYTES="200000000",
        PUPPET_DIES_LOADED="1",
        MODEL_LOAD_SECONDS=f"{LOAD_SECONDS:g}",
    )
    try:
        yield stack.start()
    finally:
        stack.close()


@pytest.fixture
def store(swap_stack: Stack) -> ModelStore:
    return ModelStore(swap_stack.models)


@pytest.fixture
def stack(swap_stack: Stack, store: ModelStore) -> Stack:
    """Return the stack of all tests here, serving v1."""
    store.set_alias("swapped", "production", "v1")
    wait_for("v1 is served", lambda: version_served(swap_stack) == "v1")
    return swap_stack


def version_served(stack: Stack) -> str:
    version: str = stack.predict(ROW).json()["version"]
    return version


class Caller(threading.Thread):
    """A caller that repeats its request and records the answers."""

    def __init__(self, url: str, path: str) -> None:
        super().__init__(daemon=True)
        self._client = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self._path = path
        self.stopping = threading.Event()
        self.seen: Counter[str] = Counter()
        self.wrong: list[Any] = []

    def run(self) -> None:
        with self._client:
            while not self.stopping.is_set():
                response = self._client.post(self._path, json=ROW)
                answer = response.json()
                if response.status_code == 202:
                    answer = self._client.get(f"/jobs/{answer['id']}", params={"wait": 20}).json()
                    answer = {**answer, **answer.get("result", {})}
                if ANSWERS.get(answer.get("version")) != answer.get("prediction"):
                    self.wrong.append((response.status_code, answer))
                else:
                    self.seen[answer["version"]] += 1


def resident_bytes(pids: list[int]) -> int:
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 for pid in pids)


@pytest.mark.timeout(SWAP_SECONDS + 120)
def test_promotions_under_load_fail_no_caller(stack: Stack, store: ModelStore) -> None:
    callers = [Caller(stack.url, path) for path in ["/predict"] * 6 + ["/jobs"] * 2]
    pinned = Caller(stack.url, "/models/swapped/versions/v1/predict")
    for caller in (*callers, pinned):
        caller.start()
    children = stack.workers[0].children()
    wait_for("the first answers", lambda: all(caller.seen for caller in callers))
    before = resident_bytes(children)
    until = time.monotonic() + SWAP_SECONDS
    versions = ["v2", "v1"]
    swaps = 0
    while time.monotonic() < until:
        target = versions[swaps % 2]
        store.set_alias("swapped", "production", target)
        wait_for(f"{target} is served", lambda target=target: version_served(stack) == target, 15)  # type: ignore[misc]
        swaps += 1
        threading.Event().wait(SWAP_EVERY_SECONDS)
    for caller in (*callers, pinned):
        caller.stopping.set()
        caller.join(30)
    assert swaps >= 2
    assert [caller.wrong for caller in (*callers, pinned)] == [[]] * 9
    assert sum((caller.seen for caller in callers), Counter()).keys() == {"v1", "v2"}
    assert set(pinned.seen) == {"v1"}
    stack.assert_conserved()
    grown = resident_bytes(children) - before
    assert grown < 40_000_000
    answers = sum(sum(caller.seen.values()) for caller in (*callers, pinned))
    print(f"{swaps} swaps, {answers} answers, children from {before / 1e6:.1f} MB by {grown / 1e6:+.1f} MB")


class RunsCode:
    """An object whose pickle creates a file where it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def corrupt(folder: Path) -> str:
    artifact = folder / "model.pkl"
    artifact.write_bytes(artifact.read_bytes()[:-10] + b"0123456789")
    return "SHA-256"


def truncate(folder: Path) -> str:
    artifact = folder / "model.pkl"
    artifact.write_bytes(artifact.read_bytes()[:-10])
    return "SHA-256"


def swap(folder: Path) -> str:
    shutil.copy(folder.parent / "v1" / "model.pkl", folder / "model.pkl")
    return "SHA-256"


def age(folder: Path) -> str:
    rewrite(folder, libraries={"scikit-learn": "0.1.2"})
    return "0.1.2"


def poison(folder: Path) -> str:
    """Replace an artifact as a writer of the store could: with a matching digest."""
    replace(folder, RunsCode(folder.parent / "code-was-run"))
    return "not trusted"


def misuse(folder: Path) -> str:
    """Replace an artifact by one of known classes, which would write a file when it is asked for a prediction."""
    estimator = StackingClassifier([])
    vars(estimator).update(estimators_=[np.zeros(3)], stack_method_=["tofile"])
    replace(folder, make_pipeline(FunctionTransformer(str), estimator))
    return "no method of estimators"


def grow(folder: Path) -> str:
    """Replace an artifact by one of 1 MB that unpacks to more than the worker's budget of 0.2 GB."""
    replace(folder, np.zeros(30_000_000), compress=("zlib", 1))
    return "unpacks to more than the 200,000,000 bytes"


def kill(folder: Path) -> str:
    replace(folder, Deadly())
    return "a process of this worker died while it loaded this artifact"


def wait_for_a_writer(folder: Path) -> str:
    (folder / "model.pkl").unlink()
    os.mkfifo(folder / "model.pkl")
    return "it is not a regular file"


def replace(folder: Path, estimator: Any, compress: Any = 0) -> None:
    joblib.dump(estimator, folder / "model.pkl", compress=compress)
    content = (folder / "model.pkl").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    rewrite(folder, artifact={"file": "model.pkl", "format": "joblib", "size_bytes": len(content), "sha256": digest})


def predict_otherwise(folder: Path) -> str:
    rewrite(folder, samples=[{"row": [0.0], "prediction": "something else", "probabilities": [1.0, 0.0]}])
    return "sample"


def rewrite(folder: Path, **changes: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def loads_refused(stack: Stack) -> float:
    """Return how often the worker has refused a version."""
    metrics = Scrape(f"http://127.0.0.1:{stack.metrics_ports[0]}/metrics")
    return metrics.total("inference_model_loads_total", model="swapped", outcome="refused")


@pytest.mark.parametrize(
    "damage", [corrupt, truncate, swap, age, poison, misuse, predict_otherwise, grow, kill, wait_for_a_writer]
)
def test_a_broken_version_is_refused_and_the_old_one_stays(
    stack: Stack, store: ModelStore, damage: Callable[[Path], str]
) -> None:
    broken = damage.__name__
    add_version(store, broken, "three")
    expected = damage(Path(store.root) / "swapped" / broken)
    refused_before = loads_refused(stack)
    store.set_alias("swapped", "production", broken)

    def refused() -> Any:
        return stack.http.get("/model-info").json()["moving"].get("production", {}).get("refused")

    reasons = wait_for("the refusal is reported", refused)
    assert all(expected in reason and "\n" not in reason for reason in reasons)
    assert expected in next(line for line in stack.workers[0].log().splitlines() if f"refused swapped {broken}" in line)
    assert loads_refused(stack) > refused_before
    assert version_served(stack) == "v1"
    assert stack.status("/readyz") == 200
    assert not list(Path(store.root).rglob("code-was-run"))
    # A caller that names the version gets a clear error.
    response = stack.http.post(f"/models/swapped/versions/{broken}/predict", json=ROW)
    assert response.status_code == 503
    assert response.json()["type"] == "urn:headrace:problem:model_unavailable"
    store.set_alias("swapped", "production", "v2")
    wait_for("v2 is served", lambda: version_served(stack) == "v2")


@pytest.mark.parametrize("called", [False, True], ids=["at once", "after a call for the version"])
def test_a_new_version_takes_the_place_of_a_first_one_that_no_worker_can_load(
    stack: Stack, store: ModelStore, called: bool
) -> None:
    name = f"stuck{called:d}"
    add_version(store, "v1", "one", alias="latest", name=name)
    corrupt(Path(store.root) / name / "v1")

    def answered() -> httpx.Response:
        return stack.http.post(f"/models/{name}/predict", json=ROW)

    wait_for("it is known", lambda: stack.http.get("/models").text.count(name))
    assert answered().status_code == 503
    add_version(store, "v2", "two", alias="latest", name=name)
    if called:
        # Loads it in one of the two children.
        assert stack.http.post(f"/models/{name}/versions/v2/predict", json=ROW).status_code == 200
    wait_for("v2 is served", lambda: answered().status_code == 200)
    assert answered().json()["version"] == "v2"


def test_a_model_that_one_child_has_loaded_moves(stack: Stack, store: ModelStore) -> None:
    add_version(store, "v1", "one", alias="latest", name="rare")
    assert stack.http.post("/models/rare/predict", json=ROW).json()["version"] == "v1"
    known = {"name": "rare", "default": False, "aliases": {"latest": "v1"}}
    wait_for("latest is v1", lambda: known in stack.http.get("/models").json()["models"])
    add_version(store, "v2", "two", alias="latest", name="rare")
    wait_for("v2 is served", lambda: stack.http.get("/models/rare").json()["version"] == "v2")


def test_a_version_whose_load_kills_a_child_is_tried_once_by_each(stack: Stack, store: ModelStore) -> None:
    death = "exited with 'signal 9 (SIGKILL)'"
    killed_before = stack.workers[0].log().count(death)
    add_version(store, "deadly", "three")
    # Another artifact than that of the test before, which the worker knows.
    replace(Path(store.root) / "swapped" / "deadly", ["another", Deadly()])
    for number in range(10):
        response = stack.http.post("/models/swapped/versions/deadly/predict", json=ROW)
        assert response.status_code == 503, number

    def deaths() -> int:
        return stack.workers[0].log().count(death) - killed_before

    assert 1 <= wait_for("the death is noticed", deaths) <= stack.concurrency
    wait_for("the child is replaced", lambda: stack.http.get("/readyz").status_code == 200)
    for _ in range(5):
        assert stack.http.post("/models/swapped/versions/deadly/predict", json=ROW).status_code == 503
    assert deaths() <= stack.concurrency


def test_a_version_whose_load_never_ends_costs_one_child(stack: Stack, store: ModelStore) -> None:
    add_version(store, "endless", "three")
    replace(Path(store.root) / "swapped" / "endless", ["one", Endless()])
    add_version(store, "v1", "one", alias="latest", name="fresh")
    store.set_alias("swapped", "production", "endless")
    wait_for("a child loads it", lambda: "loading swapped endless" in stack.workers[0].log())

    def fresh() -> httpx.Response:
        return stack.http.post("/models/fresh/predict", json=ROW)

    # A batch that the child gets which loads is late, and the next one goes to the other child.
    wait_for("another model is loaded", lambda: fresh().status_code == 200)

    def refused() -> Any:
        return stack.http.get("/model-info").json()["moving"].get("production", {}).get("refused")

    reasons = wait_for("the refusal is reported", refused)
    assert all("a process of this worker died while it loaded this artifact" in reason for reason in reasons)
    named = "it loaded swapped endless for longer than MODEL_LOAD_SECONDS"
    wait_for("the death is named", lambda: named in stack.workers[0].log())
    wait_for("v1 is served", lambda: stack.predict(ROW).status_code == 200)
    assert version_served(stack) == "v1"
    response = stack.http.post("/models/swapped/versions/endless/predict", json=ROW)
    assert response.json()["type"] == "urn:headrace:problem:model_unavailable"
    assert stack.workers[0].log().count("exited with 'signal 14 (SIGALRM)'") == 1


@pytest.mark.parametrize("change", [b"\0" * 17_000_000, b""], ids=["overwritten", "truncated"])
def test_a_file_that_changes_in_the_store_changes_no_prediction(stack: Stack, store: ModelStore, change: bytes) -> None:
    name = f"table{len(change)}"
    rows = np.array([[0.0], [1.0]])
    estimator = Table().fit(rows, np.array([3.0, 3.0]))
    export(
        estimator, rows, name=name, version="v1", store=store, feature_names=["x"], scores={}, extra_modules=["tests"]
    )
    path = Path(store.root) / name / "v1" / "model.pkl"
    children = stack.workers[0].children()
    ask = f"/models/{name}/predict"
    assert stack.http.post(ask, json=ROW).json()["prediction"] == 3.0

    with path.open("r+b") as file:
        file.truncate(len(change))
        file.write(change)

    assert {stack.http.post(ask, json=ROW).json()["prediction"] for _ in range(5)} == {3.0}
    assert stack.workers[0].children() == children


def test_model_info_lists_the_workers_that_have_it_loaded(stack: Stack, store: ModelStore) -> None:
    store.set_alias("swapped", "production", "v2")
    wait_for("v2 is served", lambda: version_served(stack) == "v2")
    info = stack.http.get("/model-info").json()
    assert info["version"] == "v2"
    assert len(info["loaded_by"]) == 1
    assert info["aliases"]["production"] == "v2"
    models = stack.http.get("/models").json()["models"]
    assert ("swapped", True) in [(model["name"], model["default"]) for model in models]


def test_a_model_added_later_is_served_on_demand(stack: Stack, store: ModelStore) -> None:
    assert stack.http.post("/models/late/predict", json=ROW).status_code == 404
    rows = np.array([[0.0], [1.0]])
    estimator = DummyClassifier(strategy="constant", constant="late").fit(rows, np.array(["late", "other"]))
    export(estimator, rows, name="late", store=store, feature_names=["x"], scores={})
    for path in ("/models/late/predict", "/models/late/versions/latest/predict"):
        assert stack.http.post(path, json=ROW).json()["prediction"] == "late"
    assert stack.http.get("/models/late").json()["name"] == "late"
    assert stack.http.get("/models/absent").status_code == 404


def test_memory_is_flat_over_many_swaps(stack: Stack, store: ModelStore) -> None:
    def swap(number: int) -> None:
        version = f"s{number}"
        add_version(store, version, f"answer {number}", alias="latest")
        store.set_alias("swapped", "production", version)
        wait_for(f"{version} is served", lambda: version_served(stack) == version)

    children = stack.workers[0].children()
    for number in range(5):
        swap(number)
    before = resident_bytes(children)
    for number in range(5, 15):
        swap(number)
    assert stack.workers[0].children() == children
    assert resident_bytes(children) < before + 20_000_000
