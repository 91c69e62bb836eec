"""Predictions and probabilities as JSON: those of many rows in blocks, between which other requests have their turn."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from gateway.catalog.served_model import Outputs, keyed
from gateway.errors import RecordDamaged
from gateway.jobs.outcome_text import BLOCK_BYTES, outcome_text
from gateway.jobs.record import Job
from gateway.web.request_context import RequestContext
from shared.queue.replies import ROWS_AS_TEXT_MIN, Result, as_text

BLOCK_VALUES = 10_000
"""Values of an answer that are written in one turn of the event loop: some 5 ms."""

_PLACE = b"\0"
"""A byte that JSON can't have, in the place of a list in pieces."""


class PiecedList:
    """JSON of a list, in pieces of one item or more; `encoded` writes it."""

    __slots__ = ("pieces",)

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces


def encoded(content: Any) -> bytes:
    """Return content as JSON. Lists in pieces are copied once: each copy of many megabytes holds up the event loop."""
    lists: list[PiecedList] = []

    def keep_place(value: Any) -> orjson.Fragment:
        if not isinstance(value, PiecedList):
            raise TypeError("no JSON")
        lists.append(value)
        return orjson.Fragment(_PLACE)

    first, *others = orjson.dumps(content, default=keep_place).split(_PLACE)
    parts = [first]
    for pieced, text in zip(lists, others, strict=True):
        before = b"["
        for piece in pieced.pieces:
            parts += before, piece
            before = b","
        parts += b"]", text
    return b"".join(parts) if lists else first


def predicted(outputs: Outputs, result: dict[str, Any], single: bool) -> dict[str, Any]:
    """Return predictions and probabilities as members of a JSON body.

    With several outputs, a prediction is an object by output. Probabilities are an object by class, and by output first
    if there are several.

    Args:
        outputs: the model's outputs.
        result: a worker's `predictions` and `probabilities`, lists over rows, of several outputs a row is a list;
            probabilities may be a text, see `Result`.
        single: True for a single flat row, whose members are values, not lists.

    Raises:
        ValueError: if the result does not fit the outputs.
    """
    predictions: list[Any] = result["predictions"]
    probabilities: list[Any] | str | None = result["probabilities"]
    if len(outputs) > 1:
        names = [name for name, _ in outputs]
        predictions = [dict(zip(names, row, strict=True)) for row in predictions]
        if probabilities is not None:
            probabilities = [
                {
                    name: dict(zip(keys or (), shares, strict=True))
                    for (name, keys), shares in zip(outputs, row, strict=True)
                }
                for row in probabilities
            ]
    elif probabilities is not None:
        keys = outputs[0][1] or ()
        if isinstance(probabilities, str) or len(probabilities) > ROWS_AS_TEXT_MIN:
            written = _by_key(keys, as_text(probabilities), len(predictions or probabilities))
            return {"predictions": predictions, "probabilities": orjson.Fragment(written)}
        probabilities = [dict(zip(keys, row, strict=True)) for row in probabilities]
    members: dict[str, Any] = {"prediction": predictions[0]} if single else {"predictions": predictions}
    if probabilities is not None:
        members["probabilities"] = probabilities[0] if single else probabilities
    return members


def _by_key(keys: Sequence[str], probabilities: str, n_rows: int) -> str:
    """Return `[{key: probability, ...}, ...]` as JSON without an object per row."""
    numbers = probabilities.split(",")
    if len(numbers) != len(keys) * n_rows:
        raise ValueError("not one probability per class")
    names = [orjson.dumps(key).decode() for key in keys]
    pieces = [""] * (2 * len(numbers))
    pieces[0::2] = ["},{" + names[0] + ":", *("," + name + ":" for name in names[1:])] * n_rows
    pieces[1::2] = numbers
    return "[" + "".join(pieces)[2:] + "}]"


async def written(outputs: Outputs, result: Result) -> dict[str, Any]:
    """Return what `predicted` returns for instances; the members of many values as lists in pieces, for `encoded`.

    Call it within `RequestContext.turn_to_write`.
    """
    rows = max(1, BLOCK_VALUES // sum(1 + len(keys or ()) for _, keys in outputs))
    n_rows = len(result["predictions"])
    if n_rows <= rows:
        return predicted(outputs, result, single=False)
    return await _in_blocks(
        outputs, _blocks(result, rows, n_numbers=rows * sum(len(each or ()) for _, each in outputs))
    )


def _blocks(result: Result, rows: int, n_numbers: int) -> Iterator[Result]:
    """Yield the results of blocks of rows, each with so many probabilities."""
    predictions, probabilities = result["predictions"], result["probabilities"]
    for start in range(0, len(predictions), rows):
        if isinstance(probabilities, str):
            block = probabilities
            if start + rows < len(predictions):
                # The numbers of the block, and the text after them.
                numbers = probabilities.split(",", n_numbers)
                block, probabilities = ",".join(numbers[:n_numbers]), "".join(numbers[n_numbers:])
        else:
            block = probabilities and probabilities[start : start + rows]
        yield {"predictions": predictions[start : start + rows], "probabilities": block}


async def _in_blocks(outputs: Outputs, results: Iterable[Result]) -> dict[str, Any]:
    """Return the members of these results one after another, each as a list in pieces."""
    pieces: defaultdict[str, list[bytes]] = defaultdict(list)
    for result in results:
        for name, members in predicted(outputs, result, single=False).items():
            if piece := orjson.dumps(members)[1:-1]:
                pieces[name].append(piece)
        await asyncio.sleep(0)
    return {name: PiecedList(texts) for name, texts in pieces.items()}


async def job_prediction(job: Job, context: RequestContext) -> dict[str, Any]:
    """Return the result of a succeeded job. The outcome names the outputs: the manifest may be gone.

    Raises:
        RecordDamaged: if the outcome is not that of a worker.
    """
    async with context.turn_to_write():
        try:
            text = outcome_text(job.outcome_json or b"") if not job.single else None
            if text is not None and len(text.text) > BLOCK_BYTES:
                return await _in_blocks(keyed(text.outputs), text.blocks())
            outcome = job.outcome or {}
            outputs = keyed(outcome["outputs"])
            return predicted(outputs, outcome, True) if job.single else await written(outputs, outcome)
        except (KeyError, IndexError, TypeError, ValueError):
            raise RecordDamaged() from None
