"""`:9101/metrics` of a worker: a thread of its main process that adds up the children's files.

The main process forks new children while this thread runs, so the thread touches nothing but files: a lock of Redis'
client or of logging that it held at that moment would be held in the child for ever.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

from shared.observability.build_info import BuildInfo
from shared.observability.multiprocess import add_up_files
from worker.metrics.pool import PoolMetrics


def make_registry() -> CollectorRegistry:
    """What the children counted, and what the main process can tell of them and of itself."""
    registry = CollectorRegistry(support_collectors_without_names=True)
    add_up_files(registry)
    for collector in (PoolMetrics(), BuildInfo()):
        registry.register(collector)
    ProcessCollector(registry=registry)
    return registry


def start_metrics_server(host: str, port: int) -> Callable[[], None]:
    """Serve the metrics until the returned function is called.

    Raises:
        OSError: if the port is taken.
    """
    server, thread = start_http_server(port, host, make_registry())

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
