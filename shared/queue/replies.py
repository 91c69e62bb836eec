"""Replies to batches: the form of a result, and how long a reply stream is kept."""

from itertools import chain
from typing import Any

import orjson

from shared.errors import PredictionError

REPLY_TTL_SECONDS = 120
"""Seconds for which replies outlive a gateway that is gone."""

REPLIES_KEPT = 10_000
"""Batches in a reply stream at most; the gateway trims what it has read."""

ROWS_AS_TEXT_MIN = 16
"""Rows of a call above which the probabilities of a model with one output travel as text."""

Result = dict[str, Any]
"""`{"predictions": [...], "probabilities": [...] | "..." | None}`, or `{"error": {code, message, rows, count}}`.

Probabilities as text are the numbers of all rows one after another, as in JSON, with commas between them: the gateway
writes them into its answer without parsing them. In the outcome of a job they are always a list.
"""


def as_text(probabilities: list[list[float]] | str) -> str:
    """Return the probabilities of a result as text."""
    if isinstance(probabilities, str):
        return probabilities
    return orjson.dumps([*chain.from_iterable(probabilities)])[1:-1].decode()


def failure(error: PredictionError) -> Result:
    """Return the result of a call that got no prediction."""
    return {"error": error.as_dict()}
