"""The JSON of successful answers."""

from datetime import datetime, timezone
from typing import Any

from gateway.jobs import Job
from shared.contract import JobStatus
from shared.manifest import Manifest


def timing(queue_seconds: float, compute_seconds: float, total_seconds: float) -> dict[str, float]:
    """Where the time went, in milliseconds. What is neither queue nor compute is the way there and back."""
    return {
        "queue_ms": round(max(0.0, queue_seconds) * 1000, 3),
        "compute_ms": round(compute_seconds * 1000, 3),
        "total_ms": round(total_seconds * 1000, 3),
    }


def server_timing(parts: dict[str, float]) -> str:
    """The same as a `Server-Timing` header."""
    return ", ".join(f"{name.removesuffix('_ms')};dur={milliseconds}" for name, milliseconds in parts.items())


def predicted(manifest: Manifest, result: dict[str, Any], single: bool) -> dict[str, Any]:
    """What the model said: flat for a flat row, lists for instances; probabilities by class."""
    members: dict[str, Any] = (
        {"prediction": result["predictions"][0]} if single else {"predictions": result["predictions"]}
    )
    if result["probabilities"] is not None:
        classes = [str(name) for name in manifest.output.classes or []]
        by_class = [dict(zip(classes, row, strict=True)) for row in result["probabilities"]]
        members["probabilities"] = by_class[0] if single else by_class
    return members


def job_view(job: Job, manifest: Manifest) -> dict[str, Any]:
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
        view["result"] = predicted(manifest, job.outcome, job.single)
    elif job.outcome is not None and "error" in job.outcome:
        view["error"] = job.outcome["error"]
    return view


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
