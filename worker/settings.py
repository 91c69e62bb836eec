"""Settings of the worker."""

import os
from pathlib import Path

from pydantic import Field

from headrace.models.manifest import IDENTIFIER_PATTERN
from shared.settings import CommonSettings
from worker.model.allow_list import AllowList

_NAME = IDENTIFIER_PATTERN.strip("^$")
_DOTTED = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"


class WorkerSettings(CommonSettings):
    """Pool size and metrics endpoint."""

    worker_concurrency: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=256)
    """Pool children, each predicting one batch at a time. Default: one per core."""

    worker_interactive_slots: int = Field(default=1, ge=0)
    """Pool children that take no jobs while someone waits for predictions; one takes them in any case."""

    worker_max_tasks_per_child: int = Field(default=0, ge=0)
    """Batches after which a pool child is replaced by a new one, against leaks of memory; 0: never."""

    worker_metrics_host: str = "127.0.0.1"
    """Address of the worker's metrics endpoint."""

    worker_metrics_port: int = Field(default=9101, ge=1, le=65535)
    """Port of the worker's metrics endpoint; every worker on one machine needs its own."""

    worker_models: str = Field(default="", pattern=rf"^$|^{_NAME}(,{_NAME})*$")
    """Names of the models that this worker serves alone, separated by commas; empty: all others."""

    worker_memory_budget_bytes: int = Field(default=2_000_000_000, gt=0)
    """Memory for models in each pool child, about; beyond it the least recently used is dropped."""

    trusted_modules: str = Field(default="", pattern=rf"^$|^{_DOTTED}(,{_DOTTED})*$")
    """Modules beside scikit-learn, NumPy, SciPy and pandas that a joblib artifact may use, separated by commas."""

    skops_trusted_types: str = Field(default="", pattern=rf"^$|^{_DOTTED}(,{_DOTTED})*$")
    """Types beside those that skops trusts that a skops artifact may hold, separated by commas."""

    model_public_key: Path | None = None
    """A PEM file of Ed25519 public keys: versions that none of them has signed are refused; without it, none are."""

    worker_drain_seconds: float = Field(default=20.0, gt=0)
    """How long a stopping worker lets running batches finish before it hands them back to the queue."""

    worker_stalled_seconds: float = Field(default=60.0, ge=5)
    """A worker that consumes nothing for so long, although it could, ends itself to be started again."""

    result_max_bytes: int = Field(default=64_000_000, gt=0)
    """A job whose outcome, or a batch whose reply is larger (JSON) fails as `result_too_large`: Redis would hold it."""

    model_cache_dir: Path = Path("~/.cache/headrace")
    """Where artifacts of a model store behind a URL are kept, each under its digest; a directory needs no cache."""

    model_cache_max_bytes: int = Field(default=10_000_000_000, ge=0)
    """The cache drops the artifacts that were not loaded for the longest time to stay below this; 0 is no cache."""

    prometheus_multiproc_dir: Path
    """Where the pool children keep their counts; set by `python -m worker` if it isn't, and emptied at start."""

    @property
    def pinned_models(self) -> list[str]:
        """`worker_models`, one by one."""
        return _parts(self.worker_models)

    @property
    def allow_list(self) -> AllowList:
        """The modules and types that artifacts may use, and the keys that must have signed them.

        Raises:
            ModelError: if the file of public keys can't be used.
        """
        signers = None
        if self.model_public_key is not None:
            # Imported only where signatures are asked for, because OpenSSL is large.
            from headrace.models.signing import PublicKeys

            signers = PublicKeys.read(self.model_public_key)
        return AllowList(frozenset(_parts(self.trusted_modules)), frozenset(_parts(self.skops_trusted_types)), signers)


def _parts(text: str) -> list[str]:
    return text.split(",") if text else []
