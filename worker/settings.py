"""Settings of the worker."""

import os
from pathlib import Path

from pydantic import Field, field_validator

from headrace.models.manifest import IDENTIFIER_PATTERN
from shared.queue.heartbeat import PINNED_MAX
from shared.settings import CommonSettings
from worker.model.allow_list import AllowList

_NAME = IDENTIFIER_PATTERN.strip("^$")
_DOTTED = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"


class WorkerSettings(CommonSettings):
    """Pool size and metrics endpoint."""

    worker_concurrency: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=256)
    """Pool children, each predicting one batch at a time. Default: one per core."""

    worker_interactive_slots: int = Field(default=1, ge=0)
    """Pool children that take no jobs for 10 s after a prediction; one child takes jobs in any case."""

    worker_max_tasks_per_child: int = Field(default=0, ge=0)
    """Batches after which a new pool child replaces an old one, against memory leaks; 0: never."""

    worker_metrics_host: str = "127.0.0.1"
    """Address of the worker's metrics endpoint."""

    worker_metrics_port: int = Field(default=9101, ge=1, le=65535)
    """Port of the worker's metrics endpoint; every worker on one machine needs its own."""

    worker_models: str = Field(default="", pattern=rf"^$|^{_NAME}(,{_NAME})*$")
    """Names of the models that this worker serves alone, at most 1,000, separated by commas; empty: all others."""

    worker_memory_budget_bytes: int = Field(default=2_000_000_000, gt=0)
    """Approximate memory for models in a pool child; the least recently used goes. No artifact may unpack to more."""

    model_load_seconds: float = Field(default=300.0, gt=0)
    """Seconds that the load of an artifact and the check of its samples may take; a longer load ends its process."""

    trusted_modules: str = Field(default="", pattern=rf"^$|^{_DOTTED}(,{_DOTTED})*$")
    """Modules beside scikit-learn, NumPy, SciPy and pandas that a joblib artifact may use, separated by commas."""

    skops_trusted_types: str = Field(default="", pattern=rf"^$|^{_DOTTED}(,{_DOTTED})*$")
    """Types that a skops artifact may hold beside those that skops trusts, separated by commas."""

    worker_drain_seconds: float = Field(default=20.0, gt=0)
    """Seconds that running batches have to finish when the worker stops; then they go back to the queue."""

    worker_stalled_seconds: float = Field(default=60.0, ge=5)
    """Seconds without consuming after which a worker that could consume ends, to be started again."""

    result_max_bytes: int = Field(default=64_000_000, gt=0)
    """Bytes of JSON that the answer to one call or job may have; a larger one fails as `result_too_large`."""

    model_cache_dir: Path = Path("~/.cache/headrace")
    """Directory of cached artifacts of a model store behind a URL, each under its digest; a local store needs none."""

    model_cache_max_bytes: int = Field(default=10_000_000_000, ge=0)
    """Bytes that the cache may hold; beyond them it drops the artifacts loaded longest ago. 0: no cache."""

    prometheus_multiproc_dir: Path
    """Directory of the pool children's counts; `python -m worker` sets it if it isn't set, and empties it at start."""

    @field_validator("worker_models")
    @classmethod
    def _within_heartbeat(cls, value: str) -> str:
        if len(_parts(value)) > PINNED_MAX:
            raise ValueError(f"a worker is pinned to at most {PINNED_MAX} models")
        return value

    @property
    def pinned_models(self) -> list[str]:
        """The names in `worker_models`."""
        return _parts(self.worker_models)

    @property
    def allow_list(self) -> AllowList:
        """The modules and types that artifacts may use, and the keys that must have signed them.

        Raises:
            ModelError: if the file of public keys can't be used.
        """
        modules, types = _parts(self.trusted_modules), _parts(self.skops_trusted_types)
        return AllowList(frozenset(modules), frozenset(types), self.signers)


def _parts(text: str) -> list[str]:
    return text.split(",") if text else []
