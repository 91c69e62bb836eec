"""Which build runs."""

import platform
from collections.abc import Iterator
from importlib import metadata

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from shared.observability.metric_names import PREFIX


def version() -> str:
    """The version of this project, as it is installed."""
    try:
        return metadata.version("headrace")
    except metadata.PackageNotFoundError:
        return "0.1.0"


class BuildInfo(Collector):
    """`inference_build_info` of a process."""

    def __init__(self) -> None:
        self._info = GaugeMetricFamily(f"{PREFIX}build_info", "The build that runs.", labels=["version", "python"])
        self._info.add_metric([version(), platform.python_version()], 1)

    def collect(self) -> Iterator[Metric]:
        """One series, always 1."""
        yield self._info
