"""The Redis keys and channels of Headrace; Celery's own are the lane lists and `unacked*`."""

import hashlib

PREFIX = "headrace:"

JOBS_OPEN = f"{PREFIX}jobs:open"
"""Sorted set: id of every job without an outcome -> time of its next check by the reconciler."""

JOB_COUNTS = f"{PREFIX}jobs:counts"
"""Hash: accepted, and one counter per outcome. accepted = sum of outcomes + size of JOBS_OPEN, at every moment."""

JOBS_KEPT = f"{PREFIX}jobs:kept"
"""Hash: part of the time, counted in ten minutes -> jobs whose records go in it; `counted` -> all jobs counted so."""

JOB_RESULT_COUNTS = f"{PREFIX}jobs:results:counts"
"""Hash: `bytes` of the kept results, the most that there may be (`bytes_max`), how many were `dropped`, and the bytes
of the outcomes to come (`coming`), as estimated when the open jobs were accepted."""

JOB_RESULTS = f"{PREFIX}jobs:results"
"""Sorted set: `<job id> <bytes>` of each outcome that counts as a kept result -> time at which its record goes."""

JOBS_ENDED = f"{PREFIX}jobs:ended"
"""Channel: ids of jobs that just got their outcome, separated by spaces."""

JOBS_DAMAGED = f"{PREFIX}jobs:damaged"
"""List: damaged data that the job scripts have put aside: key and reason, a line break, content. The gateway that
reconciles makes dead letters of them."""

RECONCILER_LOCK = f"{PREFIX}reconciler"
"""Lock: held by the one gateway process that looks after overdue jobs."""

RESTORE_LOCK = f"{PREFIX}restore"
"""Lock: held by the one worker that gives back entries which were held for too long."""

REPLICATION_MARK = f"{PREFIX}replication"
"""String: written to learn from the replicas that they have everything before it."""

WORKERS = f"{PREFIX}workers"
"""Hash: worker name -> its heartbeat (JSON)."""

WORKER_COUNTS = f"{PREFIX}workers:counts"
"""Hash: counters of workers that end before they can be scraped."""

CHILDREN = f"{PREFIX}children"
"""Hash: `<worker>/<slot>` -> the heartbeat of a pool child (JSON)."""

DEAD_LETTERS = f"{PREFIX}dead_letters"
"""List: queue entries that were not tasks of ours, and damaged data, each with its queue and the reason (JSON)."""


def shadow_lock(queue: str) -> str:
    """Return the key of the lock of a queue's one shadow entry, which waits in it or is computed; it expires."""
    return f"{PREFIX}shadow:{queue}"


def held(worker: str, child: int) -> str:
    """Return the key of a list: the entry that a pool child has taken from a queue itself, by its place in the pool."""
    return f"{PREFIX}held:{worker}/{child}"


def job(job_id: str) -> str:
    """Return the key of a job's record, a hash."""
    return f"{PREFIX}job:{job_id}"


def job_owner(owner: str) -> str:
    """Return the key of an owner's account, a hash.

    Its fields: `open` jobs, `bytes` of the open jobs with their outcomes to come, and by part of the time, counted in
    ten minutes, the bytes of the ended jobs whose records go in it.
    """
    return f"{PREFIX}jobs:owner:{owner}"


def job_index(status: str, owner: str, hour: int) -> str:
    """Return the key of a list of job ids, last one first, that the job scripts fill.

    Holds an owner's jobs that were accepted in an hour, counted from the epoch, if the status is `all`; otherwise those
    that got this outcome in it. There is none for `succeeded`, as nearly all jobs are.
    """
    return f"{PREFIX}jobs:index:{status}:{owner}:{hour}"


def idempotency(key: str, owner: str = "") -> str:
    """Return the key of an owner's Idempotency-Key, hashed because a caller chose it.

    Its value is a string: `<job id> <fingerprint of the rows>`.
    """
    text = f"{owner}\0{key}" if owner else key
    return f"{PREFIX}idempotency:{hashlib.sha256(text.encode()).hexdigest()}"


def replies(gateway: str) -> str:
    """Return the key of a gateway process's reply stream."""
    return f"{PREFIX}replies:{gateway}"
