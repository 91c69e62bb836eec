"""`python -m bench.unmetered gateway`, or `worker`: the process with its metrics patched away.

The product has no such switch. Every metric is replaced by one that does nothing, and work that is done only for
metrics (binning inputs and outputs) is left out; request ids, `timing` and `Server-Timing` stay.
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

GATEWAY_METHODS = ("answered", "succeeded", "ended_with")
"""Methods of GatewayMetrics, which record values that are written later."""

WORKER_METHODS = ("count_inputs", "count_outputs", "count_confidence")
"""Methods of ModelMetrics."""


class Nothing:
    """A metric that counts nothing."""

    def nothing(self, *_: Any, **__: Any) -> None:
        """Do nothing."""

    inc = dec = set = observe = observe_many = nothing


def main(program: str) -> None:
    """Patch the metrics, then run the program.

    Raises:
        AttributeError: If a part that is to be patched has moved.
    """
    silent = Nothing()
    MetricWrapperBase.labels = lambda *_, **__: silent  # type: ignore[method-assign,assignment]
    _silence(Counter, ("inc",))
    _silence(Gauge, ("inc", "dec", "set"))
    _silence(Histogram, ("observe",))
    if program == "gateway":
        from gateway.__main__ import main as run
        from gateway.metrics import GatewayMetrics

        _silence(GatewayMetrics, GATEWAY_METHODS)
    else:
        _patch_worker()
        from worker.app import main as run
    run()


def _patch_worker() -> None:
    from worker.__main__ import ENVIRONMENT
    from worker.metrics.model import ModelMetrics

    # `python -m worker` sets these and then replaces its process, which would lose the patches.
    os.environ.update(ENVIRONMENT)
    Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).mkdir(exist_ok=True)
    _silence(ModelMetrics, WORKER_METHODS)


def _silence(type_: type, methods: Iterable[str]) -> None:
    for method in methods:
        getattr(type_, method)  # a method that has moved would be patched in vain
        setattr(type_, method, Nothing.nothing)


if __name__ == "__main__":
    main(sys.argv[1])
