"""One of several gateway processes on one port: uvicorn's supervisor spawns it, and spawns the next when it dies."""

import fcntl
import itertools
import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path

from fastapi import FastAPI

from gateway.app import create_app
from gateway.settings import GatewaySettings
from headrace.errors import HeadraceError
from shared.observability.logs import set_up_logging
from shared.observability.multiprocess import forget_predecessor, name_files_by
from shared.settings import load_settings


def make_app() -> FastAPI:
    """Make the app of one of several processes; uvicorn calls this.

    Raises:
        SystemExit: if the model store fails. The supervisor tries again, while the other processes serve on.
    """
    settings = load_settings(GatewaySettings)
    set_up_logging("gateway", settings.log_level, settings.log_format)
    _end_with_supervisor()
    shard = take_metrics_shard(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
    name_files_by(lambda: shard)
    forget_predecessor(shard)
    try:
        return create_app(settings)
    except HeadraceError as error:
        sys.exit(f"headrace: {error}")


def take_metrics_shard(folder: Path) -> str:
    """Take the first name for metrics files that no living process has: `shard0`, `shard1`, ….

    The name is this process's until it ends, in whatever way: then the kernel releases the lock. Where there is no
    room for a lock file, the name is made of the process id.
    """
    for index in itertools.count():
        shard = f"shard{index}"
        # The lock file is never closed, and not inherited either.
        try:
            lock = os.open(folder / f"{shard}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError:
            return f"process{os.getpid()}"
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return shard
    raise AssertionError("the names are endless")


def _end_with_supervisor() -> None:
    """Stop this process if the supervisor is killed: otherwise it would hold the port for ever."""
    supervisor = multiprocessing.parent_process()
    assert supervisor is not None, "spawned by uvicorn"

    def watch() -> None:
        supervisor.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="supervisor watch", daemon=True).start()
