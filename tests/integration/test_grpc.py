"""Over gRPC, callers get the predictions of the estimator itself, and the limits of the gateway."""

import json
import math
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.conftest import NewStack
from tests.integration.test_any_model import as_json, some_rows
from tests.integration.test_any_model import stack as stack
from tests.integration.test_open_inference import assert_answers, columns_of
from tests.integration.test_tracing import new_trace, spans
from tests.support.api_keys import new_key
from tests.support.collector import collecting
from tests.support.estimators import CASES
from tests.support.exported import Exported, fitted, model_name
from tests.support.exported import exported as exported
from tests.support.exposition import Scrape
from tests.support.processes import PATIENCE_SECONDS, REPOSITORY, Process, free_port, wait_for
from tests.support.puppet import Act
from tests.support.stack import Stack
from tests.support.tensors import tensor
from tests.support.tls import tls_files

INFER = "/inference.GRPCInferenceService/ModelInfer"
ROW = {"model": "iris", "inputs": [tensor("rows", "FP64", [5.1, 3.5, 1.4, 0.2], [1, 4])]}


class Grpc:
    """A gRPC process beside a stack."""

    def __init__(self, stack: Stack, **environment: str) -> None:
        port, metrics_port = free_port(), free_port()
        self.address = f"127.0.0.1:{port}"
        self.url = f"http://127.0.0.1:{metrics_port}"
        self._stack = stack
        ports = {"GRPC_PORT": str(port), "GRPC_METRICS_PORT": str(metrics_port)}
        command = [sys.executable, "-m", "gateway.rpc"]
        self.process = Process("grpc", command, {**stack._environment, **ports, **environment}, stack.folder)

    def start(self) -> "Grpc":
        self.process.start()
        wait_for("gRPC listens", lambda: self._stack.status(f"{self.url}/livez") == 200)
        return self

    def ask(self, *calls: dict[str, Any], **options: Any) -> list[Any]:
        with self.asking(*calls, **options) as asking:
            out, err = asking.communicate(timeout=4 * PATIENCE_SECONDS)
        assert asking.returncode == 0, err
        found: list[Any] = json.loads(out)
        return found

    def asking(self, *calls: dict[str, Any], **options: Any) -> "subprocess.Popen[str]":
        """Start to make calls in a process of its own."""
        command = [sys.executable, "-m", "tests.support.grpc_caller"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        asking = subprocess.Popen(command, text=True, cwd=REPOSITORY, **pipes)  # type: ignore[call-overload]
        asking.stdin.write(json.dumps({"address": self.address, "calls": calls, **options}))
        asking.stdin.close()
        asking.stdin = None
        return asking  # type: ignore[no-any-return]


NewGrpc = Callable[..., Grpc]


@pytest.fixture
def new_grpc() -> Iterator[NewGrpc]:
    """Yield a function that starts gRPC processes for one test, and stop them."""
    made: list[Grpc] = []

    def make(stack: Stack, **environment: str) -> Grpc:
        made.append(Grpc(stack, **environment))
        return made[-1].start()

    yield make
    for each in made:
        if each.process.running:
            each.process.stop()


def test_every_estimator_answers_over_grpc(stack: Stack, exported: Exported, new_grpc: NewGrpc) -> None:
    grpc = new_grpc(stack)
    calls, cases = [], []
    for case in CASES:
        each, (_, manifest) = fitted(case), exported(case)
        rows = some_rows(each)
        columns = columns_of(manifest, as_json(rows, [feature.name for feature in manifest.features]))
        if any(None in column["data"] for column in columns if column["datatype"] != "FP64"):
            continue  # There are no missing texts and booleans.
        for column in columns:
            column["data"] = [math.nan if value is None else value for value in column["data"]]
        calls += [{"model": model_name(case), "inputs": columns, "typed": typed} for typed in (True, False)]
        cases += [(manifest, each.estimator, rows)] * 2
    assert len(cases) > len(CASES)

    for answer, (manifest, estimator, rows) in zip(grpc.ask(*calls), cases, strict=True):
        assert "outputs" in answer, answer
        kinds = {True: object, False: None}
        outputs = {
            name: np.array(values, dtype=kinds[isinstance(np.ravel(values).tolist()[0], str)])
            for name, values in answer["outputs"].items()
        }
        assert_answers(outputs, manifest, estimator, rows)


def test_the_clients_of_triton_work_unchanged_over_grpc(stack: Stack, exported: Exported, new_grpc: NewGrpc) -> None:
    grpc = new_grpc(stack)
    calls: list[dict[str, Any]] = []
    for case in ("neural network", "several classes", "several numbers", "prose"):
        manifest = exported(case)[1]
        columns = columns_of(manifest, as_json(some_rows(fitted(case)), [each.name for each in manifest.features]))
        calls += [
            {"model": model_name(case), "inputs": columns, "version": version} for version in ("", "v1", "latest")
        ]
    wrong = {**calls[0], "model": "nothing"}

    found = grpc.ask(*calls, wrong, clients=True)

    expected = [each["outputs"] for each in grpc.ask(*calls)]
    for answers in found:
        assert answers[:-1] == expected
        assert "no model nothing" in answers[-1]


def test_a_call_is_answered_with_its_times_and_ids(stack: Stack, exported: Exported, new_grpc: NewGrpc) -> None:
    grpc, name = new_grpc(stack), model_name("naive bayes")
    chosen = np.random.default_rng(0).integers(0, len(fitted("naive bayes").X), 10_000)
    rows = np.asarray(fitted("naive bayes").X)[chosen]
    call = {
        "model": name,
        "inputs": [tensor("rows", "FP64", rows.ravel().tolist(), rows.shape)],
        "metadata": {"x-request-id": "mine"},
        "outputs": ["output-0"],
    }
    exported("naive bayes")

    [answer] = grpc.ask(call)

    assert (answer["id"], answer["given"]) == ("mine", "mine")
    assert answer["parameters"].keys() == {"queue_ms", "compute_ms", "total_ms"}
    assert np.array_equal(answer["outputs"]["output-0"], fitted("naive bayes").estimator.predict(rows))
    scrape = Scrape(f"{grpc.url}/metrics")
    assert scrape.total("inference_http_requests_total", route=INFER, status="200") == 1
    assert scrape.total("inference_requests_total", outcome="ok") == 1


def test_the_example_of_the_documentation_runs(new_stack: NewStack, iris_models: Path, new_grpc: NewGrpc) -> None:
    grpc = new_grpc(new_stack(iris_models).start())
    page = (REPOSITORY / "docs/other-clients.md").read_text()
    (program,) = re.findall(r"```py\n(.*?)```", page, re.DOTALL)
    assert "127.0.0.1:8002" in program

    command = [sys.executable, "-c", program.replace("127.0.0.1:8002", grpc.address)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)

    assert ran.stdout == "[b'setosa']\n", ran


def test_malformed_messages_are_refused(new_stack: NewStack, iris_models: Path, new_grpc: NewGrpc) -> None:
    from gateway.rpc.messages import INFERENCE, message_class

    stack = new_stack(iris_models).start()
    grpc = new_grpc(stack)

    def message(raw: list[bytes], **tensor: Any) -> bytes:
        made = message_class(INFERENCE, "ModelInferRequest")(model_name="iris", raw_input_contents=raw)
        made.inputs.add(**{"name": "x", "datatype": "FP64", "shape": [1, 4], **tensor})
        encoded: bytes = made.SerializeToString()
        return encoded

    classes = message_class(INFERENCE, "ModelInferRequest").FromString(message([bytes(32)]))
    classes.outputs.add(name="predict").parameters["classification"].int64_param = 3
    values = {"fp64_contents": [1.0] * 4}
    corpus = [
        b"\xff\xff\xff",
        b"",
        message([bytes(32)], shape=[-1, 4]),
        message([bytes(32)], shape=[2**62, 4]),
        message([bytes(32)], shape=[2**32, 2**32]),
        message([bytes(32)], shape=[]),
        message([bytes(32)], shape=[1] * 10_000),
        message([bytes(31)]),
        message([bytes(64)]),
        message([bytes(32), bytes(32)]),
        message([bytes(32)], contents=values),
        message([], contents={"int64_contents": [1] * 4}),
        message([], contents={"fp64_contents": [1.0] * 3}),
        message([]),
        message([bytes(32)], datatype="BF16"),
        message([bytes(32)], datatype=""),
        message([], datatype="FP16", contents=values),
        message([b"\xff\xff\xff\xff"] * 1, datatype="BYTES"),
        message([], datatype="BYTES", contents={"bytes_contents": [b"\xff"] * 4}),
        message([], datatype="INT8", contents={"int_contents": [1000] * 4}),
        message([bytes(32)], parameters={"shared_memory_region": {"string_param": "x"}}),
        classes.SerializeToString(),
        message([np.full(4, np.nan).tobytes()]),
        message([np.full(4, np.inf).tobytes()]),
        message([], name="").replace(b"iris", b"iris") + b"\x2a\x00" * 100_000,
    ]

    found = grpc.ask(*({"method": INFER, "message": each.hex()} for each in corpus))

    assert [(each["code"], each["text"]) for each in found if each["code"] != "INVALID_ARGUMENT"] == []
    assert all(each["ErrorInfo"] in ("INVALID_TENSORS", "INVALID_ROWS") for each in found)
    chance, whole = random.Random(0), message([bytes(32)])
    changed = [bytearray(whole) for _ in range(300)]
    for each in changed:
        each[chance.randrange(len(each))] = chance.randrange(256)
    codes = {each.get("code") for each in grpc.ask(*({"method": INFER, "message": each.hex()} for each in changed))}
    assert codes == {None, "INVALID_ARGUMENT", "NOT_FOUND"}
    others = grpc.ask(
        {"method": INFER, "message": bytes(4_000_001).hex()},
        {"method": "/inference.GRPCInferenceService/ModelStreamInfer", "message": ""},
        {"method": "/grpc.health.v1.Health/Check", "message": b"\x0a\x01x".hex()},
        {**ROW, "model": "../iris"},
        {**ROW, "version": "\x00"},
        ROW,
    )
    assert [each.get("code") for each in others] == [
        "RESOURCE_EXHAUSTED",
        "UNIMPLEMENTED",
        "NOT_FOUND",
        "NOT_FOUND",
        "NOT_FOUND",
        None,
    ]
    assert grpc.ask({"method": "/grpc.health.v1.Health/Check", "message": ""})[0]["answer"] == "0801"


def puppet_call(act: Act, rows: int = 1, **options: Any) -> dict[str, Any]:
    return {"model": "puppet", "inputs": [tensor("x", "FP64", [1.0, float(act)] * rows, [rows, 2])], **options}


def test_deadlines_and_limits_over_grpc(new_stack: NewStack, puppet_models: Path, new_grpc: NewGrpc) -> None:
    stack = new_stack(puppet_models, DEFAULT_MODEL="puppet", PREDICT_DEADLINE_SECONDS="30").start_without_workers()
    grpc = new_grpc(stack, WAITING_ROWS_MAX="10", ROWS_MAX="20")

    no_worker, late, full = grpc.ask(
        puppet_call(Act.ANSWER, timeout=300_000),
        puppet_call(Act.ANSWER, client_timeout=0.3),
        puppet_call(Act.ANSWER, rows=11),
    )

    assert (no_worker["code"], no_worker["text"]) == ("UNAVAILABLE", "no worker is running")
    # Which of both deadlines is noticed first is chance: the caller's, or that of the row.
    assert late["code"] in ("DEADLINE_EXCEEDED", "UNAVAILABLE")
    assert (full["code"], full["ErrorInfo"]) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
    assert full["RetryInfo"] >= 1
    asking = grpc.asking(*[puppet_call(Act.ANSWER, timeout=60_000_000)] * 10, together=True)
    waiting = ("inference_waiting_rows", 10.0)
    wait_for("all wait", lambda: Scrape(f"{grpc.url}/metrics").total(waiting[0]) == waiting[1])
    assert grpc.ask(puppet_call(Act.ANSWER))[0]["code"] == "RESOURCE_EXHAUSTED"
    asking.terminate()
    asking.communicate(timeout=PATIENCE_SECONDS)
    wait_for("the rows of those who left are gone", lambda: Scrape(f"{grpc.url}/metrics").total(waiting[0]) == 0)
    left = grpc.ask(puppet_call(Act.ANSWER, timeout=60_000_000, leave_after=0.5))
    assert left == [{"code": "CANCELLED"}]
    wait_for("its row is gone", lambda: Scrape(f"{grpc.url}/metrics").total(waiting[0]) == 0)
    stack.workers[0].start()
    wait_for("a worker is there", lambda: stack.status(f"{grpc.url}/readyz") == 200)
    slow = grpc.ask(puppet_call(Act.SLEEP, timeout=500_000), puppet_call(Act.SLEEP, client_timeout=0.5))
    assert [each["code"] for each in slow] == ["DEADLINE_EXCEEDED"] * 2
    timeouts = grpc.ask(*(puppet_call(Act.ANSWER, timeout=wrong) for wrong in (0, -1)))
    assert {each["code"] for each in timeouts} == {"INVALID_ARGUMENT"}


def test_a_dead_broker_costs_calls_an_answer_and_nothing_else(
    new_stack: NewStack, iris_models: Path, new_grpc: NewGrpc
) -> None:
    stack = new_stack(iris_models).start()
    grpc = new_grpc(stack)
    health = {"method": "/grpc.health.v1.Health/Check", "message": ""}
    serving, not_serving = "0801", "0802"
    assert grpc.ask(ROW, health)[1]["answer"] == serving

    stack.broker.kill()

    # The caller's own deadline would be DEADLINE_EXCEEDED.
    dead = grpc.ask(*[{**ROW, "timeout": 2_000_000, "client_timeout": 10}] * 20, together=True)
    assert {each["code"] for each in dead} == {"UNAVAILABLE"}, dead
    assert all(each["RetryInfo"] >= 1 for each in dead)
    assert grpc.ask(health)[0]["answer"] == not_serving
    stack.start_broker()
    wait_for("it serves again", lambda: stack.status(f"{grpc.url}/readyz") == 200)
    assert grpc.ask(ROW, health)[1]["answer"] == serving
    assert Scrape(f"{grpc.url}/metrics").total("inference_waiting_rows") == 0
    assert "Traceback" not in grpc.process.log()


def test_calls_beyond_the_limit_of_an_owner_are_told_to_come_back(
    new_stack: NewStack, puppet_models: Path, new_grpc: NewGrpc, tmp_path: Path
) -> None:
    stack = new_stack(puppet_models, DEFAULT_MODEL="puppet").start_without_workers()
    keys = tmp_path / "keys"
    alice, bob = (
        {name.lower(): value for name, value in new_key(keys, owner, "--scope", "predict").items()}
        for owner in ("alice", "bob")
    )
    grpc = new_grpc(stack, GRPC_CALLS_MAX="4", API_KEYS_FILE=str(keys))
    call = puppet_call(Act.ANSWER, timeout=5_000_000)
    live = {"method": "/inference.GRPCInferenceService/ServerLive", "message": ""}

    found = grpc.ask(*[{**call, "metadata": alice}] * 5, *[{**call, "metadata": bob}] * 2, live, together=True)

    assert sorted(each["code"] for each in found[:5]) == ["RESOURCE_EXHAUSTED"] * 3 + ["UNAVAILABLE"] * 2
    assert [each["RetryInfo"] >= 1 for each in found if each.get("code") == "RESOURCE_EXHAUSTED"] == [True] * 3
    assert [each["code"] for each in found[5:7]] == ["UNAVAILABLE"] * 2, "the other owner has places"
    assert "answer" in found[7], "probes have places of their own"


def test_calls_in_progress_are_answered_before_the_process_stops(
    new_stack: NewStack, iris_models: Path, new_grpc: NewGrpc
) -> None:
    stack = new_stack(iris_models).start_without_workers()
    grpc = new_grpc(stack)
    asking = grpc.asking({**ROW, "timeout": 60_000_000})
    wait_for("it waits", lambda: Scrape(f"{grpc.url}/metrics").total("inference_waiting_rows") == 1)

    grpc.process.signal(signal.SIGTERM)
    stack.workers[0].start()
    out, err = asking.communicate(timeout=PATIENCE_SECONDS)

    assert asking.returncode == 0, err
    assert json.loads(out)[0]["outputs"]["predict"] == ["setosa"]
    wait_for("it has stopped", lambda: not grpc.process.running)


def test_keys_and_tls_over_grpc(new_stack: NewStack, iris_models: Path, new_grpc: NewGrpc, tmp_path: Path) -> None:
    keys, files = tmp_path / "keys", tls_files(tmp_path / "tls")
    predict, read = new_key(keys, "one", "--scope", "predict"), new_key(keys, "two", "--scope", "read")
    limited = new_key(keys, "three", "--scope", "predict", "--rate", "0.01", "--burst", "1")
    stack = new_stack(iris_models).start()
    tls = {"GRPC_TLS_CERTIFICATE": str(files.certificate), "GRPC_TLS_KEY": str(files.key)}
    grpc = new_grpc(stack, API_KEYS_FILE=str(keys), METRICS_OPEN="true", **tls)
    options = {"authority": str(files.authority)}

    def codes(call: dict[str, Any], *given: dict[str, str]) -> list[str | None]:
        metadata = [{name.lower(): value for name, value in key.items()} for key in given]
        return [each.get("code") for each in grpc.ask(*({**call, "metadata": each} for each in metadata), **options)]

    unknown = {"authorization": "Bearer nothing"}
    refused = ["UNAUTHENTICATED", "UNAUTHENTICATED"]
    assert codes(ROW, {}, unknown, predict, read) == [*refused, None, "PERMISSION_DENIED"]
    assert codes(ROW, limited, limited) == [None, "RESOURCE_EXHAUSTED"]
    for method, answered in {
        **dict.fromkeys(("ServerMetadata", "ModelMetadata", "ModelReady", "ModelConfig", "ModelStatistics")),
        **dict.fromkeys(("RepositoryIndex", "RepositoryModelLoad")),
        "RepositoryModelUnload": "INVALID_ARGUMENT",
    }.items():
        call = {"method": f"/inference.GRPCInferenceService/{method}", "message": ""}
        assert codes(call, {}, unknown, predict, read) == [*refused, "PERMISSION_DENIED", answered], method
    for method in ("ServerLive", "ServerReady"):
        assert codes({"method": f"/inference.GRPCInferenceService/{method}", "message": ""}, {}) == [None]
    assert grpc.ask({**ROW, "client_timeout": 5})[0]["code"] == "UNAVAILABLE", "a client without TLS"


def test_clients_show_a_certificate_where_one_is_asked_for(
    new_stack: NewStack, iris_models: Path, new_grpc: NewGrpc, tmp_path: Path
) -> None:
    files, others = tls_files(tmp_path / "tls"), tls_files(tmp_path / "others")
    ours = {"GRPC_TLS_CERTIFICATE": str(files.certificate), "GRPC_TLS_KEY": str(files.key)}
    grpc = new_grpc(new_stack(iris_models).start(), GRPC_TLS_CLIENT_CA=str(files.authority), **ours)
    options = {"authority": str(files.authority)}

    def code(**certificate: str) -> str | None:
        [answer] = grpc.ask({**ROW, "client_timeout": 20}, **options, **certificate)
        found: str | None = answer.get("code")
        return found

    assert code(key=str(files.key), certificate=str(files.certificate)) is None
    assert code() == "UNAVAILABLE"
    assert code(key=str(others.key), certificate=str(others.certificate)) == "UNAVAILABLE"


def test_a_call_is_in_the_trace_of_its_caller(new_stack: NewStack, puppet_models: Path, new_grpc: NewGrpc) -> None:
    with collecting() as collector:
        tracing = {
            "TRACING": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }
        stack = new_stack(puppet_models, DEFAULT_MODEL="puppet", **tracing).start()
        grpc = new_grpc(stack)
        trace_id, metadata = new_trace()
        probed, of_probe = new_trace()
        probe = {"method": "/grpc.health.v1.Health/Check", "message": "", "metadata": of_probe}

        [_, answer] = grpc.ask(probe, puppet_call(Act.ANSWER, metadata={**metadata, "x-request-id": "mine"}))

        names = (f"POST {INFER}", "queue interactive", "process interactive", "predict puppet")
        server, queue, batch, predict = spans(collector, trace_id, *names)
        assert server.parent_id == metadata["traceparent"].split("-")[2]
        assert [each.parent_id for each in (queue, batch, predict)] == [server.span_id, queue.span_id, batch.span_id]
        assert (server.kind, server.attributes["headrace.request_id"]) == ("SERVER", "mine")
        assert server.attributes["http.response.status_code"] == 200
        assert server.attributes["headrace.total_ms"] == answer["parameters"]["total_ms"]
        assert collector.of_trace(probed) == []


def test_what_keeps_the_process_from_starting_is_one_line(
    new_stack: NewStack, iris_models: Path, new_grpc: NewGrpc, tmp_path: Path
) -> None:
    stack = new_stack(iris_models).start_without_workers()
    grpc = new_grpc(stack)
    nothing = tmp_path / "nothing.pem"
    nothing.write_text("")

    for environment, line in (
        ({"GRPC_PORT": grpc.address.partition(":")[2]}, "gRPC can't listen on"),
        ({"GRPC_TLS_KEY": "x"}, "GRPC_TLS_CERTIFICATE and GRPC_TLS_KEY belong together"),
        ({"GRPC_TLS_CERTIFICATE": "missing", "GRPC_TLS_KEY": "missing"}, "a file of GRPC_TLS_… can't be read"),
        ({"GRPC_TLS_CERTIFICATE": str(nothing), "GRPC_TLS_KEY": str(nothing)}, "the certificate and its key"),
    ):
        failing = Grpc(stack, **environment)
        failing.process.start()
        wait_for("it has ended", lambda: not failing.process.running)  # noqa: B023 - called at once
        assert [each for each in failing.process.log().splitlines() if line in each], failing.process.log()
