"""The outcome of a job of many rows as text, of which a part is parsed at a time: 11 MB at once take 0.1 s."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from shared.queue.replies import Result

BLOCK_BYTES = 100_000
"""Bytes of an outcome from which a block is cut off: some 5,000 numbers."""

_PREDICTIONS, _PROBABILITIES, _OUTPUTS = b'{"predictions":', b',"probabilities":', b',"outputs":'


@dataclass(frozen=True)
class OutcomeText:
    """The outcome of a job that has succeeded, as its worker wrote it."""

    text: bytes
    outputs: list[Any]
    """Name and classes of each output."""
    probabilities_at: int
    """Position of the member `probabilities`, which ends the predictions."""
    outputs_at: int
    """Position of the member `outputs`, which ends the probabilities."""

    def blocks(self) -> Iterator[Result]:
        """Yield results of blocks of rows, first predictions without probabilities and then the reverse.

        Raises:
            ValueError: if the text is not JSON.
        """
        several = len(self.outputs) > 1
        for rows in self._rows(len(_PREDICTIONS), self.probabilities_at, b"],[" if several else b","):
            yield {"predictions": rows, "probabilities": None}
        start = self.probabilities_at + len(_PROBABILITIES)
        if self.text[start : self.outputs_at] != b"null":
            for rows in self._rows(start, self.outputs_at, b"]],[[" if several else b"],["):
                yield {"predictions": [], "probabilities": rows}

    def _rows(self, start: int, end: int, between: bytes) -> Iterator[list[Any]]:
        """Yield the items of the list between two positions in blocks, cut off where `between` separates two items."""
        if self.text[start : start + 1] + self.text[end - 1 : end] != b"[]":
            raise ValueError("not a list")
        start, end = start + 1, end - 1
        while start < end:
            cut = self.text.find(between, start + BLOCK_BYTES, end)
            stop = cut + len(between) // 2 if cut >= 0 else end
            try:
                rows = orjson.loads(b"[%b]" % self.text[start:stop])
            except ValueError:
                # A text among the predictions may hold what else is between two of them.
                stop = end
                rows = orjson.loads(b"[%b]" % self.text[start:stop])
            yield rows
            start = stop + 1


def outcome_text(text: bytes) -> OutcomeText | None:
    """Find the members of an outcome without parsing it; None if they are not those that workers write, in their order.

    A quotation mark inside a JSON string has a backslash before it, so no string holds the name of a member with both
    of its marks.
    """
    outputs_at = text.rfind(_OUTPUTS)
    probabilities_at = text.find(_PROBABILITIES, 0, max(outputs_at, 0))
    if probabilities_at < 0 or not text.startswith(_PREDICTIONS) or not text.endswith(b"]}"):
        return None
    try:
        outputs = orjson.loads(text[outputs_at + len(_OUTPUTS) : -1])
    except ValueError:
        return None
    return OutcomeText(text, outputs, probabilities_at, outputs_at) if isinstance(outputs, list) else None
