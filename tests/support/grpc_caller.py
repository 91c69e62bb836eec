"""Program that calls the gRPC process, in a process of its own: threads of gRPC and forks of tests do not mix.

It reads an address and a list of calls from standard input, in JSON, and writes what became of each. A call has
`inputs` as in the protocol, whose values are sent in bytes or, with `typed`, in the contents of the inputs; or it has a
whole `message` in hexadecimal digits. `clients` has the clients of Triton make the calls.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as blocking
from tritonclient.grpc import aio, service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from gateway.rpc.messages import RPC, message_class
from gateway.rpc.tensors import FIELDS
from tests.support.tensors import as_bytes


def message_of(call: dict[str, Any]) -> Any:
    """Return the message of a call."""
    message = service_pb2.ModelInferRequest(model_name=call["model"], model_version=call.get("version", ""), id="mine")
    for each in call["inputs"]:
        tensor = message.inputs.add(name=each["name"], datatype=each["datatype"], shape=each["shape"])
        if call.get("typed"):
            values = [value.encode() if isinstance(value, str) else value for value in each["data"]]
            getattr(tensor.contents, FIELDS[each["datatype"]]).extend(values)
        else:
            message.raw_input_contents.append(as_bytes(each["data"], each["datatype"]))
    for name in call.get("outputs", ()):
        message.outputs.add(name=name)
    if "timeout" in call:
        message.parameters["timeout"].int64_param = call["timeout"]
    return message


def plain(values: Any) -> Any:
    """Return values of an output as lists, with texts instead of bytes."""
    if isinstance(values, list):
        return [*map(plain, values)]
    return values.decode() if isinstance(values, bytes) else values


def outputs_of(result: Any) -> dict[str, Any]:
    """Return the outputs of a result of Triton's clients."""
    return {each.name: plain(result.as_numpy(each.name).tolist()) for each in result.get_response().outputs}


def failure(error: Any) -> dict[str, Any]:
    """Return what an error says, with its details."""
    metadata = dict(error.trailing_metadata() or ())
    found = {"code": error.code().name, "text": error.details(), "id": metadata.get("x-request-id")}
    status = message_class(RPC, "Status").FromString(metadata.get("grpc-status-details-bin", b""))
    for detail in status.details:
        name = detail.type_url.rpartition(".")[2]
        made = message_class(RPC, name).FromString(detail.value)
        found[name] = made.retry_delay.seconds if name == "RetryInfo" else made.reason
    return found


async def made(channel: Any, call: dict[str, Any]) -> dict[str, Any]:
    """Make a call, and return its outputs or its error."""
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    options = {"metadata": [*call.get("metadata", {}).items()], "timeout": call.get("client_timeout")}
    if "method" in call:
        respond = channel.unary_unary(call["method"])
        pending = respond(bytes.fromhex(call["message"]), **options)
    else:
        pending = stub.ModelInfer(message_of(call), **options)
    if "leave_after" in call:
        await asyncio.sleep(call["leave_after"])
        pending.cancel()
    try:
        answer = await pending
    except grpc.aio.AioRpcError as error:
        return failure(error)
    except asyncio.CancelledError:
        return {"code": "CANCELLED"}
    trailing = dict(await pending.trailing_metadata())
    if isinstance(answer, bytes):
        return {"answer": answer.hex(), "id": trailing["x-request-id"]}
    parameters = {name: value.double_param for name, value in answer.parameters.items()}
    outputs = outputs_of(blocking.InferResult(answer))
    return {"outputs": outputs, "parameters": parameters, "id": trailing["x-request-id"], "given": answer.id}


async def all_made(asked: dict[str, Any], *files: bytes | None) -> list[Any]:
    """Make all calls, one after another or at once, with TLS if there are files: authority, key and certificate."""
    if files[0] is not None:
        channel = grpc.aio.secure_channel(asked["address"], grpc.ssl_channel_credentials(*files))
    else:
        channel = grpc.aio.insecure_channel(asked["address"])
    async with channel:
        if asked.get("together"):
            return [*await asyncio.gather(*(made(channel, call) for call in asked["calls"]))]
        return [await made(channel, call) for call in asked["calls"]]


def prepared(call: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call as Triton's clients want them."""
    inputs = []
    for each in call["inputs"]:
        values = np.array(each["data"], dtype=triton_to_np_dtype(each["datatype"])).reshape(each["shape"])
        inputs.append(blocking.InferInput(each["name"], each["shape"], each["datatype"]).set_data_from_numpy(values))
    return {"model_name": call["model"], "model_version": call.get("version", ""), "inputs": inputs}


def of_client(asked: dict[str, Any]) -> list[Any]:
    """Make the calls with Triton's blocking client."""
    found: list[Any] = []
    with blocking.InferenceServerClient(asked["address"]) as client:
        assert client.is_server_live() and client.is_server_ready()
        for call in asked["calls"]:
            try:
                found.append(outputs_of(client.infer(**prepared(call), timeout=30_000_000)))
            except InferenceServerException as error:
                found.append(error.message())
                continue
            described = client.get_model_metadata(call["model"], as_json=True)
            assert found[-1].keys() == {output["name"] for output in described["outputs"]}
            assert client.is_model_ready(call["model"])
            assert call["model"] in {each.name for each in client.get_model_repository_index().models}
            assert_dialect(client, call["model"], call.get("version", ""))
    return found


def assert_dialect(client: Any, name: str, version: str) -> None:
    """Check what Triton's client can ask of a model beside the protocol."""
    described = client.get_model_metadata(name, version)
    config = client.get_model_config(name, version).config
    assert (config.name, [each.name for each in config.input]) == (name, [each.name for each in described.inputs])
    [stats] = client.get_inference_statistics(name, version).model_stats
    assert stats.name == name and stats.inference_stats.success.ns > stats.inference_stats.queue.ns > 0
    assert name in {each.name for each in client.get_inference_statistics().model_stats}
    client.load_model(name)
    try:
        client.unload_model(name)
    except InferenceServerException as error:
        assert "by themselves" in error.message()
    else:
        raise AssertionError("it is still there")


async def of_aio_client(asked: dict[str, Any]) -> list[Any]:
    """Make the calls with Triton's asyncio client."""
    found: list[Any] = []
    async with aio.InferenceServerClient(asked["address"]) as client:
        for call in asked["calls"]:
            try:
                found.append(outputs_of(await client.infer(**prepared(call))))
            except InferenceServerException as error:
                found.append(error.message())
    return found


if __name__ == "__main__":
    task = json.load(sys.stdin)
    if task.get("clients"):
        json.dump([of_client(task), asyncio.run(of_aio_client(task))], sys.stdout)
    else:
        known = [
            Path(task[name]).read_bytes() if name in task else None for name in ("authority", "key", "certificate")
        ]
        json.dump(asyncio.run(all_made(task, *known)), sys.stdout)
