"""`:9101/metrics` of a worker: a thread of its main process that adds up the children's files.

The main process forks new children while this thread runs, so the thread touches nothing but files.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, multiprocess, start_http_server


def start_metrics_server(host: str, port: int) -> Callable[[], None]:
    """Serve the metrics until the returned function is called.

    Raises:
        OSError: if the port is taken.
    """
    # A registry of its own: sharing it with the metrics would export every series twice.
    registry = CollectorRegistry(support_collectors_without_names=True)
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    server, thread = start_http_server(port, host, registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
