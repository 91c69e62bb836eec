"""Program that sends requests with the clients of Triton, in a process of its own: they change its sockets.

It reads the address of a gateway and a list of requests from standard input, in JSON: `model`, `version`, `inputs` as
in the protocol, `binary`, and optionally `outputs`. It writes the outputs of each request, by name, or its error.
"""

import asyncio
import json
import sys
from typing import Any

import numpy as np
import tritonclient.http as blocking
from tritonclient.http import aio
from tritonclient.utils import InferenceServerException, triton_to_np_dtype


def prepared(request: dict[str, Any]) -> tuple[list[Any], list[Any] | None]:
    """Return inputs and outputs as the clients want them."""
    inputs = []
    for each in request["inputs"]:
        values = np.array(each["data"], dtype=triton_to_np_dtype(each["datatype"])).reshape(each["shape"])
        made = blocking.InferInput(each["name"], each["shape"], each["datatype"])
        inputs.append(made.set_data_from_numpy(values, binary_data=request["binary"]))
    asked = [blocking.InferRequestedOutput(name, binary_data=request["binary"]) for name in request.get("outputs", [])]
    return inputs, asked or None


def outputs_of(result: Any) -> dict[str, Any]:
    """Return the outputs of a result as lists, with texts instead of bytes."""

    def plain(values: Any) -> Any:
        if isinstance(values, list):
            return [*map(plain, values)]
        return values.decode() if isinstance(values, bytes) else values

    names = [output["name"] for output in result.get_response()["outputs"]]
    return {name: plain(result.as_numpy(name).tolist()) for name in names}


async def answers_of_aio(url: str, requests: list[dict[str, Any]]) -> list[Any]:
    """Send requests with the asyncio client."""
    async with aio.InferenceServerClient(url) as client:
        found: list[Any] = []
        for request in requests:
            inputs, outputs = prepared(request)
            try:
                result = await client.infer(
                    request["model"], inputs, outputs=outputs, model_version=request["version"], timeout=30_000_000
                )
                found.append(outputs_of(result))
            except InferenceServerException as error:
                found.append(str(error))
        return found


def answers_of_blocking(url: str, requests: list[dict[str, Any]]) -> list[Any]:
    """Send requests with the blocking client."""
    with blocking.InferenceServerClient(url) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        found: list[Any] = []
        for request in requests:
            inputs, outputs = prepared(request)
            try:
                result = client.infer(request["model"], inputs, outputs=outputs, model_version=request["version"])
                found.append(outputs_of(result))
            except InferenceServerException as error:
                found.append(str(error))
            else:
                described = client.get_model_metadata(request["model"], request["version"])
                assert found[-1].keys() <= {output["name"] for output in described["outputs"]} | {"output-0"}
                assert client.is_model_ready(request["model"], request["version"])
                assert client.get_model_config(request["model"])["name"] == request["model"]
                stats = client.get_inference_statistics(request["model"])["model_stats"]
                assert stats[0]["inference_stats"]["success"]["count"] > 0
        described = client.get_inference_statistics()["model_stats"]
        assert {request["model"] for request in requests[:-2]} <= {each["name"] for each in described}
        return found


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    answers = [answers_of_blocking(asked["url"], asked["requests"])]
    answers.append(asyncio.run(answers_of_aio(asked["url"], asked["requests"])))
    json.dump(answers, sys.stdout)
