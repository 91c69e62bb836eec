"""Replies to batches: the form of a result, and how long a reply stream is kept."""

from typing import Any

from shared.errors import PredictionError

REPLY_TTL_SECONDS = 120
"""Seconds for which replies outlive a gateway that is gone."""

REPLIES_KEPT = 10_000
"""Batches in a reply stream at most; the gateway trims what it has read."""

Result = dict[str, Any]
"""`{"predictions": [...], "probabilities": [...] | None}`, or `{"error": {code, message, rows, count}}`."""


def failure(error: PredictionError) -> Result:
    """Return the result of a call that got no prediction."""
    return {"error": error.as_dict()}
