"""Models come from a real MLflow server, and clients of MLflow and KServe, unchanged, get what the estimators say."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.models.signing import PublicKeys
from headrace.models.store import ModelStore
from tests.integration.conftest import NewStack
from tests.integration.test_any_model import as_json, assert_same, some_rows
from tests.integration.test_open_inference import assert_answers, columns_of
from tests.support.exported import Exported, fitted, model_name
from tests.support.exported import exported as exported
from tests.support.mlflow_environment import call, mlflow_server, why_no_mlflow
from tests.support.processes import PATIENCE_SECONDS, Process, free_port, python, wait_for
from tests.support.requirements import require
from tests.support.signing import signing_key
from tests.support.stack import Stack

NUMBERS, GAPS, MIXED, PROSE = "naive bayes", "boosting with gaps", "mixed frame", "prose"
SEVERAL = ("several numbers", "several classes")

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", autouse=True)
def environment() -> None:
    require(not (reason := why_no_mlflow()), str(reason))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "mlflow"
    folder.mkdir()
    with mlflow_server(folder) as address:
        yield address


@pytest.fixture
def command(tmp_path: Path, server: str) -> Iterator[Callable[..., Process]]:
    """Start `headrace` with a store and the server."""
    made: list[Process] = []

    def start(*arguments: str) -> Process:
        settings = {"MLFLOW_TRACKING_URI": server, "MODEL_STORE": str(tmp_path / "models"), "NO_PROXY": "127.0.0.1"}
        process = Process(f"headrace{len(made)}", [*python("headrace"), *arguments], settings, tmp_path)
        process.start()
        made.append(process)
        return process

    yield start
    for process in made:
        process.stop()


def ended(process: Process) -> str:
    wait_for("the end of a command", lambda: not process.running or None, 2 * PATIENCE_SECONDS)
    return process.log()


def assert_serves(stack: Stack, registered: dict[str, Any]) -> None:
    """Check that the gateway's predictions come from the registered version, and are the pipeline's own."""

    def answered() -> Any:
        answer = stack.http.post("/models/people/predict", json={"instances": registered["rows"]}).json()
        return answer if answer.get("version") == f"mlflow-{registered['version']}" else None

    answer = wait_for("the version of MLflow", answered)
    assert answer["predictions"] == registered["predictions"]
    shares = [[each[name] for name in ("leaves", "stays")] for each in answer["probabilities"]]
    assert shares == [pytest.approx(row, abs=1e-9) for row in registered["probabilities"]]


def test_a_stack_serves_the_version_that_an_alias_of_mlflow_names(
    server: str, command: Callable[..., Process], new_stack: NewStack, tmp_path: Path
) -> None:
    first = call("mlflow_registrar", {"server": server, "seed": 1}, tmp_path)
    # The list of trusted types that came with the model counts for nothing.
    assert "numpy.dtype" in ended(command("follow", "mlflow", "models:/people@champion", "--once"))
    once = command("follow", "mlflow", "models:/people@champion", "--trusted", "numpy.dtype", "--once")
    assert "version 1: imported and served as production of people, mlflow-1" in ended(once)
    stack = new_stack(tmp_path / "models", DEFAULT_MODEL="people").start()
    assert_serves(stack, first)

    following = command("follow", "mlflow", "models:/people@champion", "--interval", "0.5")
    second = call("mlflow_registrar", {"server": server, "seed": 2, "format": "cloudpickle"}, tmp_path)
    assert_serves(stack, second)
    assert following.stop() == 0
    log = following.log()
    assert "version 1" not in log, "the version that was there is imported or served again"
    assert log.count("version 2: imported and served as production of people, mlflow-2 (was mlflow-1)") == 1
    assert log.endswith("headrace: stopped\n")

    store = ModelStore(tmp_path / "models")
    assert sorted(store.versions("people")) == ["mlflow-1", "mlflow-2"]
    assert store.manifest("people", "mlflow-2").description.startswith("From MLflow: models:/people/2, registered at ")
    named = {
        feature.name: (feature.type, feature.nullable) for feature in store.manifest("people", "mlflow-2").features
    }
    assert named == {"age": ("number", False), "income": ("number", True), "city": ("string", False)}

    again = ended(command("import", "mlflow", "models:/people/2"))
    assert again == "people mlflow-2 is there: it was imported from models:/people/2\n"
    missing = ended(command("import", "mlflow", "models:/people@nobody"))
    assert missing.startswith("headrace: ") and missing.count("\n") == 1 and "nobody" in missing


def test_the_follower_signs_what_it_imports_and_nothing_else(
    server: str, command: Callable[..., Process], tmp_path: Path
) -> None:
    call("mlflow_registrar", {"server": server, "seed": 1}, tmp_path)
    key, public = signing_key(tmp_path / "key.pem")
    follow = ("follow", "mlflow", "models:/people@champion", "--trusted", "numpy.dtype", "--once", "--sign", str(key))
    assert "mlflow-1" in ended(command(*follow))
    store = ModelStore(tmp_path / "models")
    PublicKeys([public]).check(store, store.manifest("people", "mlflow-1"))

    # Somebody who may write to the store exchanges the model, and makes the follower look at it again.
    manifest = Path(store.location("people", "mlflow-1"), "manifest.json")
    manifest.write_text(manifest.read_text().replace('"leaves"', '"evil"'))
    (tmp_path / "models/people/aliases/production.json").unlink()

    assert "none of the keys in --sign has signed it as it is" in ended(command(*follow))
    assert "production" not in store.aliases("people")


def test_the_clients_of_mlflow_and_kserve_work_unchanged(
    exported: Exported, new_stack: NewStack, tmp_path: Path
) -> None:
    cases = (MIXED, NUMBERS, GAPS, PROSE, *SEVERAL)
    requests: list[dict[str, Any]] = []
    frames: dict[str, dict[str, Any]] = {}
    for name in cases:
        store, manifest = exported(name)
        instances = as_json(some_rows(fitted(name)), [each.name for each in manifest.features])
        frames[name] = {"columns": [*instances[0]], "data": [[*row.values()] for row in instances]}
        requests += [
            {
                "case": name,
                "model": model_name(name),
                "version": version,
                "inputs": columns_of(manifest, instances),
                "binary": binary,
                "instances": instances,
            }
            for version in ("", "v1", "latest")
            for binary in ([False, True] if name == NUMBERS else [False])
        ]
    assert any(None in row for row in frames[MIXED]["data"])
    stack = new_stack(Path(store.root), DEFAULT_MODEL=model_name(MIXED)).start()
    frames[MIXED]["url"] = stack.url
    with ExitStack() as gateways:
        # The default model of a gateway is the one that MLflow's client can ask.
        for name in cases[1:]:
            port = free_port()
            settings = {"GATEWAY_PORT": str(port), "DEFAULT_MODEL": model_name(name)}
            environment = {**stack.gateway.environment, **settings}
            gateway = Process(f"gateway-{port}", python("gateway"), environment, tmp_path)
            gateways.callback(gateway.stop)
            gateway.start()
            frames[name]["url"] = f"http://127.0.0.1:{port}"
        asked = {"url": stack.url, "mlflow": list(frames.values()), "kserve": requests}
        by_mlflow, by_kserve = call("other_callers", asked, tmp_path)

    for name, predictions in zip(frames, by_mlflow, strict=True):
        assert_same(predictions, fitted(name).estimator.predict(some_rows(fitted(name))))
    assert len(by_kserve) == len(requests)
    for request, (outputs, predictions) in zip(requests, by_kserve, strict=True):
        each, rows = fitted(request["case"]), some_rows(fitted(request["case"]))
        arrays = {name: _array(values) for name, values in outputs.items()}
        assert_answers(arrays, exported(request["case"])[1], each.estimator, rows)
        assert_same(predictions, each.estimator.predict(rows))


def _array(values: list[Any]) -> Any:
    array = np.array(values)
    return array.astype(object) if array.dtype.kind == "U" else array
