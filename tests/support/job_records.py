"""Jobs as the gateway reads them: queued, running and ended."""

from dataclasses import replace

from gateway.jobs.record import Job
from shared.queue.contract import JobStatus

QUEUED = Job(
    id="j1",
    status=JobStatus.QUEUED,
    model="sticks",
    version="v1",
    single=True,
    attempt=0,
    accepted_at=1_795_000_000.1234,
    started_at=None,
    ended_at=None,
    compute_seconds=None,
    outcome_json=None,
)
RUNNING = replace(QUEUED, status=JobStatus.RUNNING, attempt=1, started_at=1_795_000_001.0)
ENDED = replace(RUNNING, ended_at=1_795_000_003.5)
