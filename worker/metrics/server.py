"""The endpoint `:9101/metrics` of a worker: a thread of its main process that adds up the children's files.

The main process forks new children while this thread runs. So the thread uses nothing but files: a lock of the Redis
client or of logging that it held at the moment of a fork would stay locked in the child for ever.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

from shared.observability.build_info import BuildInfo
from shared.observability.multiprocess import add_up_files
from worker.metrics.pool import PoolMetrics


def make_registry() -> CollectorRegistry:
    """Make a registry of the children's counts, the pool, the build and the main process."""
    registry = CollectorRegistry(support_collectors_without_names=True)
    add_up_files(registry)
    for collector in (PoolMetrics(), BuildInfo()):
        registry.register(collector)
    ProcessCollector(registry=registry)
    return registry


def start_metrics_server(host: str, port: int) -> Callable[[], None]:
    """Start to serve the metrics.

    Returns:
        A function that stops serving.

    Raises:
        OSError: if the port is taken.
    """
    server, thread = start_http_server(port, host, make_registry())

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
