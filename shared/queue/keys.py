"""Every Redis key and channel that is ours; Celery's own are the lane lists, `unacked*` and `_kombu.*`."""

import hashlib

PREFIX = "headrace:"

JOBS_OPEN = f"{PREFIX}jobs:open"
"""Sorted set: id of every job without an outcome -> time of its next check by the reconciler."""

JOB_COUNTS = f"{PREFIX}jobs:counts"
"""Hash: accepted, and one counter per outcome. accepted = sum of outcomes + size of JOBS_OPEN, at every moment."""

JOBS_ENDED = f"{PREFIX}jobs:ended"
"""Channel: ids of jobs that just got their outcome, separated by spaces."""

RECONCILER_LOCK = f"{PREFIX}reconciler"
"""Lock: held by the one gateway that looks after overdue jobs."""

WORKERS = f"{PREFIX}workers"
"""Hash: worker name -> its announcement (JSON)."""

WORKER_COUNTS = f"{PREFIX}workers:counts"
"""Hash: what workers count that do not live to be scraped."""

CHILDREN = f"{PREFIX}children"
"""Hash: `<worker>/<slot>` -> the announcement of a pool child (JSON)."""

DEAD_LETTERS = f"{PREFIX}dead_letters"
"""List: queue entries that were not tasks, each with where it came from and why (JSON)."""


def job(job_id: str) -> str:
    """Hash: the record of a job."""
    return f"{PREFIX}job:{job_id}"


def idempotency(key: str, owner: str = "") -> str:
    """String: `<job id> <fingerprint of the rows>` for an owner's Idempotency-Key, hashed because a caller chose it."""
    text = f"{owner}\0{key}" if owner else key
    return f"{PREFIX}idempotency:{hashlib.sha256(text.encode()).hexdigest()}"


def replies(gateway: str) -> str:
    """Stream: the batch replies for one gateway process."""
    return f"{PREFIX}replies:{gateway}"
