"""MLServer: a custom runtime with adaptive batching, up to 64 requests.

It speaks the Open Inference Protocol only, so the row arrives as a tensor and the answer leaves as two; the protocol's
schema is its validation (shape and number type are checked when the tensor is decoded). It predicts in the server's
process: one or two parallel workers gained nothing on two cores at 64 connections.
"""

import asyncio
import os
from typing import Any

import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from bench.peers.model import answer, load


class Iris(MLModel):
    """A runtime that takes rows and returns their classes and probabilities."""

    async def load(self) -> bool:
        """Load the model in the process that predicts."""
        self.model = load()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Predict a batch."""
        answers: list[dict[str, Any]] = answer(self.model, NumpyCodec.decode_input(payload.inputs[0]))
        probabilities = np.array([list(one["probabilities"].values()) for one in answers])
        return InferenceResponse(
            model_name=self.name,
            outputs=[
                StringCodec.encode_output("prediction", [one["prediction"] for one in answers]),
                NumpyCodec.encode_output("probabilities", probabilities),
            ],
        )


class Sum(MLModel):
    """The model of MLServer's own benchmark: the sum of all values of a tensor."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Add up the values of the first tensor."""
        total = NumpyCodec.decode_input(payload.inputs[0]).sum()
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("total", np.array([total]))])


async def serve() -> None:
    """Serve until a signal ends it."""
    settings = Settings(
        host="127.0.0.1",
        http_port=int(os.environ["PORT"]),
        grpc_port=int(os.environ["GRPC_PORT"]),
        metrics_port=int(os.environ["METRICS_PORT"]),
        parallel_workers=0,
        debug=False,
    )
    model = ModelSettings(
        name="iris",
        implementation=f"bench.peers.mlserver.{os.environ.get('RUNTIME', 'Iris')}",
        max_batch_size=64,
        max_batch_time=0.005,
    )
    await MLServer(settings).start([model])


if __name__ == "__main__":
    asyncio.run(serve())
