"""Program that sends rows with the clients of MLflow and KServe, in their environment.

It reads from standard input, in JSON: `mlflow`, a list of frames with `columns` and `data` and the `url` of a gateway
whose default model gets them; `kserve`, a list of `model`, `version`, `inputs` as tensors of protocol 2, `binary`, and
`instances` for protocol 1, and their `url`. It writes the predictions for each frame, and of each request of KServe's
those of both protocols.
"""

import asyncio
import json
import sys
from typing import Any

import numpy as np
import pandas as pd
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from mlflow.pyfunc.scoring_server.client import ScoringServerClient


def answers_of_mlflow(frame: dict[str, Any]) -> list[Any]:
    """Return the predictions for a data frame: a value for each row, or an object of several outputs."""
    host, _, port = frame["url"].rpartition(":")
    client = ScoringServerClient(host.removeprefix("http://"), int(port))
    client.wait_server_ready(timeout=60)
    answer = client.invoke(pd.DataFrame(frame["data"], columns=frame["columns"]))
    predictions: pd.DataFrame = answer.get_predictions()
    found: list[Any] = predictions[0].tolist() if len(predictions.columns) == 1 else predictions.to_dict("records")
    return found


def inputs_of(request: dict[str, Any]) -> list[InferInput]:
    """Return the inputs as KServe's client wants them."""
    inputs = []
    for each in request["inputs"]:
        made = InferInput(each["name"], each["shape"], each["datatype"], None if request["binary"] else each["data"])
        if request["binary"]:
            kind = np.object_ if each["datatype"] == "BYTES" else np.float64
            made.set_data_from_numpy(np.array(each["data"], dtype=kind).reshape(each["shape"]), binary_data=True)
        inputs.append(made)
    return inputs


async def answers_of_kserve(url: str, requests: list[dict[str, Any]]) -> list[Any]:
    """Return the outputs of protocol 2 by name, and the predictions of protocol 1, of each request."""
    found: list[Any] = []
    configurations = [RESTConfig(protocol=each) for each in ("v1", "v2")]
    async with InferenceRESTClient(configurations[0]) as one, InferenceRESTClient(configurations[1]) as two:
        assert await two.is_server_live(url) and await two.is_server_ready(url)
        for request in requests:
            name = request["model"] + (f"/versions/{request['version']}" if request["version"] else "")
            assert await two.is_model_ready(url, name)
            answer = await two.infer(url, InferRequest(request["model"], inputs_of(request)), model_name=name)
            outputs = {each.name: each.as_numpy().tolist() for each in answer.outputs}
            predictions = await one.infer(url, {"instances": request["instances"]}, model_name=name)
            found.append([outputs, predictions["predictions"]])
    return found


def plain(value: Any) -> Any:
    """Return texts in the place of bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    answers = [
        [answers_of_mlflow(each) for each in asked["mlflow"]],
        asyncio.run(answers_of_kserve(asked["url"], asked["kserve"])),
    ]
    print("\n" + json.dumps(answers, default=plain))
