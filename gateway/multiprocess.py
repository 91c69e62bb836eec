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


def app_of_one() -> FastAPI:
    """The app, in a process that has taken its slot; uvicorn calls this.

    Raises:
        SystemExit: if the model store fails. The supervisor tries again, while the others serve on.
    """
    settings = load_settings(GatewaySettings)
    set_up_logging("gateway", settings.log_level, settings.log_format)
    _end_with_the_supervisor()
    slot = take_slot(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]))
    name_files_by(lambda: slot)
    forget_predecessor(slot)
    try:
        return create_app(settings)
    except HeadraceError as error:
        sys.exit(f"headrace: {error}")


def take_slot(folder: Path) -> str:
    """The first slot that no living process has: `slot0`, `slot1`, ….

    It is this process's until it ends, in whatever way: then the kernel lets go of the lock.
    """
    for index in itertools.count():
        slot = f"slot{index}"
        # Never closed, and not inherited either.
        lock = os.open(folder / f"{slot}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        else:
            return slot
    raise AssertionError("slots are endless")


def _end_with_the_supervisor() -> None:
    """If the supervisor is killed, nobody would ever stop this process, which holds the port."""
    supervisor = multiprocessing.parent_process()
    assert supervisor is not None, "spawned by uvicorn"

    def watch() -> None:
        supervisor.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="supervisor watch", daemon=True).start()
