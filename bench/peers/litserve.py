"""LitServe: batches of up to 64 rows.

Validation is what its documentation shows: `decode_request` picks the fields out of the JSON object; a missing field is
an error, a wrong type too. ZeroMQ (`fast_queue`) carries requests to the model's process, as it advises for load.
One worker and a window of 1 ms: on two cores a second worker, a second API process or a wider window gained nothing at
64 connections that was worth their cost at one (a window of 50 ms: a fifth more at 64, 53 ms instead of 4 at one).
"""

import os
from typing import Any

import litserve

from bench.peers.model import FEATURES, answer, load


class Iris(litserve.LitAPI):
    """One row in, the class and probabilities out."""

    def setup(self, device: str) -> None:
        """Load the model in the process that predicts."""
        self.model = load()

    def decode_request(self, request: dict[str, Any]) -> list[float]:
        """The row in the order of the features."""
        return [float(request[name]) for name in FEATURES]

    def batch(self, inputs: list[list[float]]) -> list[list[float]]:
        """Rows become one table in `answer`."""
        return inputs

    def predict(self, x: list[list[float]]) -> list[dict[str, Any]]:
        """Predict a batch."""
        return answer(self.model, x)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """One answer per row already."""
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """As it is."""
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
