"""Over gRPC, a caller who sends what no client would send harms nobody else."""

from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from tests.integration.conftest import NewStack
from tests.integration.test_grpc import INFER, ROW, NewGrpc
from tests.integration.test_grpc import new_grpc as new_grpc
from tests.support.exposition import Scrape
from tests.support.http2_frames import Http2Connection
from tests.support.processes import wait_for
from tests.support.tensors import tensor

LIVE = b"/inference.GRPCInferenceService/ServerLive"


def test_text_that_is_not_utf8_harms_nobody_and_is_not_logged(
    new_stack: NewStack, iris_models: Path, new_grpc: NewGrpc
) -> None:
    grpc = new_grpc(new_stack(iris_models).start())

    with Http2Connection(grpc.address) as connection:
        connection.call(b"/\xff", b"")
        assert connection.answered() == 1
        connection.call(LIVE, b"", [(b"authorization", b"Bearer \xffsecret"), *[(b"x", b"\xff")] * 400])
        assert connection.answered() == 3

    assert grpc.ask(ROW)[0]["outputs"]["predict"] == ["setosa"]
    assert "secret" not in grpc.process.log()
    assert "Traceback" not in grpc.process.log()


def test_metadata_that_unpacks_to_megabytes_holds_up_nobody(
    new_stack: NewStack, iris_models: Path, new_grpc: NewGrpc
) -> None:
    grpc = new_grpc(new_stack(iris_models).start())

    with Http2Connection(grpc.address) as connection:
        for _ in range(5):
            connection.call(LIVE, None, repeated=(b"x", 3_000 * b"y"))
        began_at = monotonic()
        assert grpc.ask(ROW)[0]["outputs"]["predict"] == ["setosa"]

    assert monotonic() - began_at < 20


@pytest.mark.parametrize("path", [LIVE, INFER.encode()])
def test_a_message_that_does_not_come_is_not_waited_for(
    new_stack: NewStack, iris_models: Path, new_grpc: NewGrpc, path: bytes
) -> None:
    grpc = new_grpc(new_stack(iris_models).start_without_workers(), BODY_RECEIVE_SECONDS="0.5")

    with Http2Connection(grpc.address) as connection:
        connection.call(path, None)
        assert connection.answered() == 1

    route = path.decode()
    assert Scrape(f"{grpc.url}/metrics").total("inference_http_requests_total", route=route, status="408") == 1


def test_an_answer_counts_until_it_is_read(new_stack: NewStack, iris_models: Path, new_grpc: NewGrpc) -> None:
    grpc = new_grpc(new_stack(iris_models).start(), ANSWER_MAX_BYTES="800000", ANSWERS_MAX_BYTES="800000")
    # Imported here: tests fork, and must not start threads of gRPC.
    from gateway.rpc.messages import INFERENCE, message_class

    rows = np.random.default_rng(0).uniform(1.0, 5.0, (3_000, 4))
    call = {"model": "iris", "inputs": [tensor("rows", "FP32", rows.ravel().tolist(), rows.shape)]}

    with Http2Connection(grpc.address, window=0) as connection:
        message = message_class(INFERENCE, "ModelInferRequest")(model_name="iris")
        message.inputs.add(name="rows", datatype="FP32", shape=rows.shape)
        message.raw_input_contents.append(rows.astype(np.float32).tobytes())
        connection.call(INFER.encode(), message.SerializeToString())
        assert connection.answered() == 1
        assert grpc.ask(call)[0]["ErrorInfo"] == "ANSWERS_FULL"
        assert "outputs" in grpc.ask(ROW)[0]

    wait_for("the answer of who has left counts no more", lambda: "outputs" in grpc.ask(call)[0])
