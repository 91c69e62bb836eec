"""A real celery-exporter for tests, as `make up` runs it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts import environment
from scripts.stack import EXPORTER_SETTINGS, PROCFILE
from scripts.supervisor import read_procfile
from scripts.up import EXPORTER_ENVIRONMENT, EXPORTER_LOCK, exporter_python
from tests.support.processes import REPOSITORY, Process, free_port
from tests.support.requirements import REQUIRE_ALL


def why_no_exporter() -> str | None:
    """Return why there is no exporter, or None. Its environment is made only where no test may be skipped."""
    folder = REPOSITORY / EXPORTER_ENVIRONMENT
    if (folder / environment.STAMP_FILE).is_file():
        return None
    python = exporter_python()
    if python is None:
        return "celery-exporter needs Python 3.11 or 3.12"
    if os.environ.get(REQUIRE_ALL) != "1":
        return f"celery-exporter is not installed: `make up` makes {EXPORTER_ENVIRONMENT}"
    environment.ensure(folder, [REPOSITORY / EXPORTER_LOCK], python)
    return None


@contextmanager
def exporter(folder: Path, redis_url: str) -> Iterator[int]:
    """Run an exporter and yield the port of its metrics."""
    port = free_port()
    settings = {**EXPORTER_SETTINGS, "CE_BROKER_URL": redis_url, "CE_HOST": "127.0.0.1", "CE_PORT": str(port)}
    command = read_procfile(REPOSITORY / PROCFILE)["exporter"]
    process = Process("exporter", ["sh", "-c", f"exec {command}"], settings, folder)
    process.start()
    try:
        yield port
    finally:
        process.stop()
