"""mosec: a Rust front that batches dynamically, up to 64 rows.

Validation follows its documentation: the worker parses the JSON and raises mosec's ValidationError (422) for a row that
isn't four numbers by name. Two workers, one per core. The window is 1 ms, the smallest: with its default of 10 ms one
caller waits 13 ms.
"""

from typing import Any

from mosec import Server, ValidationError, Worker

from bench.peers.model import FEATURES, answer, load


class Iris(Worker):
    """A worker that takes rows and returns their classes and probabilities."""

    def __init__(self) -> None:
        self.model = load()

    def forward(self, data: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Predict a batch."""
        try:
            rows = [[float(row[name]) for name in FEATURES] for row in data]
        except (KeyError, TypeError, ValueError) as error:
            raise ValidationError("a row is four numbers by name") from error
        return answer(self.model, rows)


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Iris,
        num=2,
        max_batch_size=64,
        max_wait_time=1,
        route="/predict",
    )
    server.run()
