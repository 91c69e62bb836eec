"""The metric of the build that runs."""

import platform
from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from headrace.version import __version__
from shared.observability.metric_names import PREFIX


class BuildInfo(Collector):
    """Collector of `inference_build_info`."""

    def __init__(self) -> None:
        self._info = GaugeMetricFamily(f"{PREFIX}build_info", "The build that runs.", labels=["version", "python"])
        self._info.add_metric([__version__, platform.python_version()], 1)

    def collect(self) -> Iterator[Metric]:
        """Yield one series, whose value is always 1."""
        yield self._info
