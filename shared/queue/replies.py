"""Replies to batches: the form of a result, and how long a reply stream is kept."""

import base64
import sys
from array import array
from collections.abc import Iterator
from itertools import chain
from typing import Any

import orjson

from shared.errors import PredictionError

REPLY_TTL_SECONDS = 120
"""Seconds for which replies outlive a gateway that is gone."""

REPLIES_KEPT = 10_000
"""Batches in a reply stream at most; the gateway trims what it has read."""

ROWS_AS_TEXT_MIN = 16
"""Rows of a call above which the probabilities of a model with one output travel as text, or packed."""

PACKED = "float64"
"""Member of packed probabilities that holds them."""

Result = dict[str, Any]
"""`{"predictions": [...], "probabilities": [...] | "..." | {...} | None}`, or `{"error": {code, message, rows, count}}`

Probabilities as text are the numbers of all rows one after another, as in JSON, with commas between them: the gateway
writes them into its answer without parsing them. Packed, as `{"float64": [...]}`, they are little-endian float64 in
base64, in pieces that each hold some of the rows. In the outcome of a job they are always a list.
"""


def as_text(probabilities: list[list[float]] | str) -> str:
    """Return the probabilities of a result as text."""
    if isinstance(probabilities, str):
        return probabilities
    return orjson.dumps([*chain.from_iterable(probabilities)])[1:-1].decode()


def as_packed(probabilities: list[list[float]] | dict[str, list[str]]) -> dict[str, list[str]]:
    """Return the probabilities of a result packed."""
    if isinstance(probabilities, dict):
        return probabilities
    numbers = array("d", chain.from_iterable(probabilities))
    if sys.byteorder == "big":
        numbers.byteswap()
    return packed_piece(numbers)


def packed_piece(numbers: "array[float] | bytes") -> dict[str, list[str]]:
    """Return little-endian float64 as packed probabilities of one piece."""
    return {PACKED: [base64.b64encode(numbers).decode()]}


def unpacked_pieces(probabilities: dict[str, list[str]]) -> Iterator[bytes]:
    """Yield the bytes of each piece of packed probabilities."""
    return map(base64.b64decode, probabilities[PACKED])


def failure(error: PredictionError) -> Result:
    """Return the result of a call that got no prediction."""
    return {"error": error.as_dict()}
