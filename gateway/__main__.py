"""`python -m gateway`: serve in one process or several, until a signal."""

import math
import os
import shutil
import socket
import sys
import tempfile
from contextlib import suppress
from typing import Any

import uvicorn
from fastapi import FastAPI

from gateway.app import create_app
from gateway.settings import GatewaySettings
from gateway.web.graceful_stop import DRAIN_SECONDS, END_SECONDS, GatewayProcesses
from gateway.web.http_protocol import HttpProtocol
from gateway.web.slow_clients import raise_file_limit
from headrace.errors import HeadraceError
from shared.broker_check import check_broker
from shared.observability.logs import set_up_logging
from shared.settings import load_settings

GRACEFUL_SECONDS = math.ceil(DRAIN_SECONDS + END_SECONDS) + 2
"""Seconds after which uvicorn stops whatever happens; `GracefulStop` has ended everything before."""

HANGS_SECONDS = 20
"""Time without an answer after which one of several processes is replaced; on a slow machine, a start takes half."""

ACCEPTED_TOGETHER = 8
"""New connections that all processes together accept in a turn of their event loops; each takes some 0.15 ms."""


def main() -> None:
    """Read the settings and run uvicorn."""
    settings = load_settings(GatewaySettings)
    set_up_logging("gateway", settings.log_level, settings.log_format)
    check_broker(settings.redis_url)
    # Processes that are spawned from here inherit the limit.
    raise_file_limit(settings.connections_max)
    try:
        # Each of several processes makes its own app. This one shows at once an error that all of them would meet.
        app = create_app(settings.model_copy(update={"gateway_processes": 1}))
    except HeadraceError as error:
        sys.exit(f"headrace: {error}")
    if settings.gateway_processes == 1:
        serve(settings, app)
        return
    # A folder of our own, whatever the environment says: in a worker's, each would show the counts of both.
    try:
        folder = tempfile.mkdtemp(prefix="headrace-gateway-")
    except OSError as error:
        sys.exit(f"headrace: no folder for metrics: {error}")
    # prometheus-client reads it when it is imported, in every process that is spawned from here.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    try:
        serve(settings, "gateway.multiprocess:make_app")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def serve(settings: GatewaySettings, app: FastAPI | str) -> None:
    """Serve until a signal.

    uvicorn's supervisor replaces processes that died or hang, and passes SIGTERM and SIGINT on.

    Args:
        settings: the gateway's settings.
        app: the app, to serve it in this process; or the import path of its factory, to serve it in as many processes
            as the settings say.
    """
    options: dict[str, Any] = {
        "host": settings.gateway_host,
        "port": settings.gateway_port,
        "http": HttpProtocol,
        "ws": "none",
        # The gateway does not use the caller's address.
        "proxy_headers": False,
        "log_config": None,
        "access_log": False,
        "timeout_keep_alive": settings.gateway_keep_alive_seconds,
        "timeout_graceful_shutdown": GRACEFUL_SECONDS,
        "timeout_worker_healthcheck": HANGS_SECONDS,
        "server_header": False,
    }
    processes = settings.gateway_processes
    config = uvicorn.Config(app, factory=processes > 1, workers=processes, **options)
    sockets = listen(config, max(1, ACCEPTED_TOGETHER // processes))
    if processes > 1:
        GatewayProcesses(config, sockets).run()
        return
    server = uvicorn.Server(config)
    # uvicorn raises the signals that stopped it once more.
    with suppress(KeyboardInterrupt):
        server.run(sockets)
    if not server.started:
        sys.exit(1)


def listen(config: uvicorn.Config, together: int) -> list[socket.socket]:
    """Return so many sockets on one port: in a turn of the event loop, uvloop accepts one connection from each.

    A turn may take milliseconds: with a single socket, callers who connect would wait for as many turns as others have
    come before them.
    """
    bound = config.bind_socket()
    return [bound, *(bound.dup() for _ in range(together - 1))]


if __name__ == "__main__":
    main()
