"""A real MLflow server, and the clients of MLflow and KServe, in an environment of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from scripts import environment
from tests.support.processes import PATIENCE_SECONDS, REPOSITORY, Process, free_port, wait_for
from tests.support.requirements import REQUIRE_ALL

ENVIRONMENT = REPOSITORY / ".venv-mlflow"
LOCK = REPOSITORY / "requirements/mlflow.txt"
PYTHON = ENVIRONMENT / "bin/python"

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GIT_PYTHON_REFRESH": "quiet"}

WITHOUT_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""Jobs of MLflow's own leave processes and files behind."""


def why_no_mlflow() -> str | None:
    """Return why there is no MLflow, or None. Its environment is made only where no test may be skipped."""
    if (ENVIRONMENT / environment.STAMP_FILE).is_file():
        return None
    if sys.version_info < (3, 11):
        return "the lock of MLflow needs Python 3.11"
    if os.environ.get(REQUIRE_ALL) != "1":
        return "MLflow is not installed: `make venv-mlflow` makes .venv-mlflow, which takes two minutes and 1 GB"
    environment.ensure(ENVIRONMENT, [LOCK], environment.base_python())
    return None


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Run a tracking server with a registry and proxied artifacts, and yield its address."""
    port = free_port()
    command = [
        *(str(ENVIRONMENT / "bin/mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")),
    ]
    variables = {**QUIET, **WITHOUT_JOBS, "PATH": f"{ENVIRONMENT / 'bin'}:{os.environ['PATH']}"}
    server = Process("mlflow", command, variables, folder, folder)
    server.start()
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool | None:
        assert server.running, server.log()[-5000:]
        try:
            return httpx.get(f"{address}/health", trust_env=False).status_code == 200 or None
        except httpx.TransportError:
            return None

    try:
        wait_for("MLflow's server", answers, 2 * PATIENCE_SECONDS)
        yield address
    finally:
        # Its orderly end takes ten seconds.
        server.kill()


def call(module: str, asked: Any, folder: Path) -> Any:
    """Run a module of this folder in the environment, with a document on its standard input; return its answer."""
    variables = {**os.environ, **QUIET, "NO_PROXY": "127.0.0.1", "TMPDIR": str(folder)}
    variables.pop("PYTHONWARNINGS", None)
    ran = subprocess.run(
        [PYTHON, "-m", f"tests.support.{module}"],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=variables,
        timeout=4 * PATIENCE_SECONDS,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-5000:]
    return json.loads(ran.stdout.splitlines()[-1])
