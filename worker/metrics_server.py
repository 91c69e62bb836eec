"""`:9101/metrics` of a worker: a thread of its main process that adds up the children's files.

The main process forks new children while this thread runs, so the thread touches nothing but files.
"""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, start_http_server

from shared.metric_files import add_up_files


def start_metrics_server(host: str, port: int) -> Callable[[], None]:
    """Serve the metrics until the returned function is called.

    Raises:
        OSError: if the port is taken.
    """
    registry = CollectorRegistry(support_collectors_without_names=True)
    add_up_files(registry)
    server, thread = start_http_server(port, host, registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
