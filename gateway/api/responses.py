"""The JSON of successful answers."""

from collections.abc import Sequence
from datetime import datetime, timezone
from itertools import chain
from typing import Any

import orjson

from gateway.jobs.record import Job
from headrace.models.manifest import Manifest
from shared.queue.contract import JobStatus


def timing(queue_seconds: float, compute_seconds: float, total_seconds: float) -> dict[str, float]:
    """Where the time went, in milliseconds. What is neither queue nor compute is the way there and back."""
    return {
        "queue_ms": round(max(0.0, queue_seconds) * 1000, 3),
        "compute_ms": round(compute_seconds * 1000, 3),
        "total_ms": round(total_seconds * 1000, 3),
    }


def server_timing(parts: dict[str, float]) -> str:
    """The same as a `Server-Timing` header."""
    return f"queue;dur={parts['queue_ms']}, compute;dur={parts['compute_ms']}, total;dur={parts['total_ms']}"


WRITTEN_ROWS_MIN = 16
"""Rows above which the probabilities are written as JSON text at once; objects for all of them take thrice as long."""

Outputs = Sequence[tuple[str, Sequence[Any] | None]]
"""Name and classes of each output of a model."""


def outputs_of(manifest: Manifest) -> Outputs:
    """The outputs as a manifest describes them."""
    return [(output.name, output.classes) for output in manifest.outputs]


def predicted(outputs: Outputs, result: dict[str, Any], single: bool) -> dict[str, Any]:
    """What the model said: flat for a flat row, lists for instances.

    With several outputs a prediction is an object by output; probabilities are an object by class.
    """
    predictions: list[Any] = result["predictions"]
    probabilities: list[Any] | None = result["probabilities"]
    if len(outputs) > 1:
        names = [name for name, _ in outputs]
        predictions = [dict(zip(names, row, strict=True)) for row in predictions]
        if probabilities is not None:
            by_output = [[str(name) for name in classes or ()] for _, classes in outputs]
            probabilities = [
                {
                    name: dict(zip(classes, shares, strict=True))
                    for name, classes, shares in zip(names, by_output, row, strict=True)
                }
                for row in probabilities
            ]
    elif probabilities is not None:
        labels = [str(name) for name in outputs[0][1] or ()]
        if len(probabilities) > WRITTEN_ROWS_MIN:
            written = _by_label(labels, probabilities)
            return {"predictions": predictions, "probabilities": orjson.Fragment(written)}
        probabilities = [dict(zip(labels, row, strict=True)) for row in probabilities]
    members: dict[str, Any] = {"prediction": predictions[0]} if single else {"predictions": predictions}
    if probabilities is not None:
        members["probabilities"] = probabilities[0] if single else probabilities
    return members


def _by_label(labels: list[str], shares: list[list[float]]) -> bytes:
    """The JSON of `[{label: share, ...}, ...]`, without an object for each of the rows."""
    numbers = orjson.dumps([*chain.from_iterable(shares)])[1:-1].split(b",")
    if len(numbers) != len(labels) * len(shares):
        raise ValueError("not one probability per class")
    names = [orjson.dumps(label) for label in labels]
    pieces = [b""] * (2 * len(numbers))
    pieces[0::2] = [b"},{" + names[0] + b":", *(b"," + name + b":" for name in names[1:])] * len(shares)
    pieces[1::2] = numbers
    return b"[" + b"".join(pieces)[2:] + b"}]"


def job_prediction(job: Job) -> dict[str, Any]:
    """What the model said of a succeeded job; its outcome names the outputs, whatever became of the manifest."""
    outcome = job.outcome or {}
    return predicted(outcome["outputs"], outcome, job.single)


def job_view(job: Job) -> dict[str, Any]:
    """A job as its caller sees it; what has not happened yet is absent."""
    view: dict[str, Any] = {
        "id": job.id,
        "status": job.status.value,
        "model": job.model,
        "version": job.version,
        "attempt": job.attempt,
        "accepted_at": _iso(job.accepted_at),
    }
    if job.started_at is not None:
        view["started_at"] = _iso(job.started_at)
    if job.ended_at is not None:
        view["ended_at"] = _iso(job.ended_at)
        view["timing"] = timing(
            (job.started_at or job.ended_at) - job.accepted_at,
            job.compute_seconds or 0.0,
            job.ended_at - job.accepted_at,
        )
    if job.status is JobStatus.SUCCEEDED and job.outcome is not None:
        view["result"] = job_prediction(job)
    elif job.outcome is not None and "error" in job.outcome:
        view["error"] = job.outcome["error"]
    return view


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
