"""Settings of the worker."""

import os
from pathlib import Path

from pydantic import Field

from shared.settings import CommonSettings


class WorkerSettings(CommonSettings):
    """Pool size and metrics endpoint."""

    worker_concurrency: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=256)
    """Pool children, each predicting one batch at a time. Default: one per core."""

    worker_metrics_host: str = "127.0.0.1"
    """Address of the worker's metrics endpoint."""

    worker_metrics_port: int = Field(default=9101, ge=1, le=65535)
    """Port of the worker's metrics endpoint; every worker on one machine needs its own."""

    worker_drain_seconds: float = Field(default=20.0, gt=0)
    """How long a stopping worker lets running batches finish before it hands them back to the queue."""

    prometheus_multiproc_dir: Path
    """Where the pool children keep their counts; set by `python -m worker` if it isn't, and emptied at start."""
