"""Imports modules, those of each room in a fresh child process, and records their effects besides definitions.

`python -W error -m tests.support.importing gateway.app …` prints a JSON object: module -> effects.
"""

import gc
import importlib
import json
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

OURS = ("headrace", "gateway", "worker", "training", "shared")

# Libraries that are imported once, before the children start: they are slow, and may have effects.
LIBRARIES = (
    "celery.app.amqp", "celery.bootsteps", "celery.signals", "fastapi", "joblib", "kombu.transport.redis", "numpy",
    "cryptography.hazmat.primitives.serialization", "httpx", "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk.trace", "orjson", "pandas", "prometheus_client.multiprocess", "pydantic_settings",
    "redis.asyncio", "sklearn.datasets", "sklearn.ensemble", "sklearn.linear_model", "sklearn.model_selection",
    "sklearn.neural_network", "skops.io", "threadpoolctl", "uvicorn.protocols.http.httptools_impl",
)  # fmt: skip

# Audit events that mean that something outside this process is touched.
FORBIDDEN_EVENTS = {
    "os.exec", "os.fork", "os.kill", "os.mkdir", "os.putenv", "os.remove", "os.rename", "os.rmdir", "os.system",
    "os.unsetenv", "shutil.rmtree", "socket.bind", "socket.connect", "socket.getaddrinfo", "subprocess.Popen",
    "tempfile.mkdtemp", "tempfile.mkstemp",
}  # fmt: skip


def main() -> None:
    """Import every named module, and print its effects."""
    sys.dont_write_bytecode = True
    for library in LIBRARIES:
        importlib.import_module(library)
    # A collection in a child would copy the memory that it shares with this process.
    gc.disable()
    gc.freeze()
    rooms = groupby(sys.argv[1:], key=lambda module: module.split(".")[:2])
    print(json.dumps({module: found for _, modules in rooms for module, found in _in_child([*modules]).items()}))


def _in_child(modules: list[str]) -> dict[str, list[str]]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        with os.fdopen(writing, "w") as pipe:
            json.dump(_effects_of_importing(modules), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        noted: dict[str, list[str]] = json.load(pipe)
    os.waitpid(pid, 0)
    return noted


def _effects_of_importing(modules: list[str]) -> dict[str, list[str]]:
    noted: list[str] = []
    watching = False

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and (event in FORBIDDEN_EVENTS or (event == "open" and _writes(arguments))):
            noted.append(f"{event}{arguments}")

    sys.addaudithook(audit)
    _watch_environment(lambda name: noted.append(f"reads {name} from the environment"))
    found = {}
    for module in modules:
        before = _state()
        watching = True
        try:
            importlib.import_module(module)
        except BaseException:
            noted.append(traceback.format_exc())
        watching = False
        after = _state()
        found[module] = noted + [f"changes {part}" for part, value in before.items() if after[part] != value]
        noted.clear()
    return found


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return any(letter in (mode or "") for letter in "wax+") or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR))


def _watch_environment(note: Callable[[str], None]) -> None:
    """Record which environment variables our modules read; libraries may read any."""

    class Watched(os._Environ):  # type: ignore[type-arg]
        def __getitem__(self, name: Any) -> Any:
            frame = sys._getframe(1)
            while frame.f_back and frame.f_globals.get("__name__") in ("os", "_collections_abc", "collections.abc"):
                frame = frame.f_back
            if str(frame.f_globals.get("__name__")).split(".")[0] in OURS:
                note(str(name))
            return super().__getitem__(name)

    os.environ.__class__ = Watched


def _state() -> dict[str, Any]:
    """Return the global state that an import could change."""
    from celery import signals
    from celery.utils.dispatch import Signal
    from prometheus_client import REGISTRY, values

    return {
        "the metrics of the process": sorted(REGISTRY._names_to_collectors),
        "how metrics are stored": values.ValueClass,
        "the threads": threading.active_count(),
        "the signal handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "the log handlers": [list(logging.getLogger().handlers), logging.getLogger().level],
        "Celery's signals": {
            name: len(found.receivers or ()) for name, found in vars(signals).items() if isinstance(found, Signal)
        },
        "the environment": dict(os.environ._data),  # type: ignore[attr-defined]
        "the working folder": str(Path.cwd()),
    }


if __name__ == "__main__":
    main()
