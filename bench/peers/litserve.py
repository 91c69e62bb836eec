"""LitServe: batches of up to 64 rows.

Validation follows its documentation: `decode_request` takes the fields from the JSON object; a missing field or a wrong
type is an error. ZeroMQ (`fast_queue`) carries requests to the model's process, as its documentation advises for load.
One worker and a window of 1 ms: on two cores a second worker, a second API process or a wider window gained too little
at 64 connections for their cost at one (a window of 50 ms: a fifth more at 64, 53 ms instead of 4 at one).
"""

import os
from typing import Any

import litserve

from bench.peers.model import FEATURES, answer, load


class Iris(litserve.LitAPI):
    """An API that takes one row and returns its class and probabilities."""

    def setup(self, device: str) -> None:
        """Load the model in the process that predicts."""
        self.model = load()

    def decode_request(self, request: dict[str, Any]) -> list[float]:
        """Return the row in the order of the features."""
        return [float(request[name]) for name in FEATURES]

    def batch(self, inputs: list[list[float]]) -> list[list[float]]:
        """Return the rows unchanged; `answer` makes them one table."""
        return inputs

    def predict(self, x: list[list[float]]) -> list[dict[str, Any]]:
        """Predict a batch."""
        return answer(self.model, x)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the answers, of which there is one per row already."""
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """Return the answer unchanged."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        Iris(max_batch_size=64, batch_timeout=0.001),
        accelerator="cpu",
        workers_per_device=1,
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
