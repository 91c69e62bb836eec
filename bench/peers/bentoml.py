"""BentoML: adaptive batching.

Validation follows its Iris example: an array of numbers, here `{"rows": [[5.1, 3.5, 1.4, 0.2]]}`, because a batched API
takes a list and a caller with one row sends a list of one. Two workers, one per core, as its documentation advises.
"""

from typing import Any

import bentoml
import numpy as np

from bench.peers.model import answer, load


@bentoml.service(workers=2, metrics={"enabled": True}, logging={"access": {"enabled": False}})
class Iris:
    """A service that takes rows and returns their classes and probabilities."""

    def __init__(self) -> None:
        self.model = load()

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
    def predict(self, rows: np.ndarray) -> list[dict[str, Any]]:
        """Predict a batch."""
        return answer(self.model, rows)
