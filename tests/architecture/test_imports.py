"""Importing a module defines things and does nothing else; each process loads only its own packages."""

import ast
import json
import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.support.processes import REPOSITORY
from tests.support.requirements import require

PACKAGES = ("headrace", "gateway", "worker", "training", "shared")
CODE = (*PACKAGES, "monitoring", "scripts", "bench", "demo")
LINES_AT_MOST = 300
MODULES_AT_MOST = 12


def modules_of(*folders: str) -> list[Path]:
    return [path.relative_to(REPOSITORY) for folder in folders for path in sorted((REPOSITORY / folder).rglob("*.py"))]


def name_of(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def run(*arguments: str) -> str:
    """Return the output of Python, run with these arguments and without settings of this project."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    # Forking a process with threads is a warning, and NumPy may start threads.
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


@cache
def loaded_with(modules: str) -> set[str]:
    """Return the names of all modules that Python has loaded after an import."""
    return set(run("-c", f"import {modules}, sys; print(*sys.modules)").split())


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("gateway.__main__", {"sklearn", "numpy", "scipy", "joblib", "worker", "training"}),
        ("gateway.app", {"sklearn", "numpy", "scipy", "joblib", "worker", "training"}),
        ("worker.app", {"fastapi", "starlette", "uvicorn", "gateway", "training"}),
        ("training.command", {"fastapi", "starlette", "uvicorn", "celery", "gateway", "worker"}),
    ],
)
def test_a_process_loads_what_it_needs_and_not_what_the_others_need(module: str, never: set[str]) -> None:
    loaded = loaded_with(module)

    assert module in loaded
    assert {name.split(".")[0] for name in loaded} & never == set()


@pytest.mark.parametrize("module", ["gateway.__main__", "gateway.multiprocess", "worker.app", "training.command"])
def test_without_tracing_nothing_of_it_is_loaded(module: str) -> None:
    """Check that no process loads the SDK or the exporter.

    FastAPI imports OpenTelemetry's interface and redis-py its metrics, but neither imports what makes and exports
    spans.
    """
    loaded = loaded_with(module)

    spans = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "google.protobuf")
    assert not [name for name in loaded if name.startswith(spans)]
    assert not {"shared.observability.tracing", "gateway.tracing", "worker.execution.tracing"} & set(loaded)


def test_what_is_shared_stays_light() -> None:
    # Imported on demand, and by processes that use Redis: redis-py imports OpenTelemetry's interface for metrics.
    apart = ("tracing", "master", "broker_check")
    names = [name_of(path) for path in modules_of("shared") if path.stem not in apart]
    loaded = loaded_with(", ".join(names))

    heavy = {"fastapi", "starlette", "uvicorn", "sklearn", "numpy", "scipy", "joblib", "gateway", "worker", "training"}
    assert {name.split(".")[0] for name in loaded} & {*heavy, "opentelemetry"} == set()


def test_importing_a_module_does_nothing_but_define_things() -> None:
    names = [name_of(path) for path in modules_of(*PACKAGES)]
    assert len(names) > 50

    effects: dict[str, list[str]] = json.loads(run("-m", "tests.support.importing", *names))

    assert {name: noted for name, noted in effects.items() if noted} == {}
    assert list(effects) == names


BUSY = '''"""Does everything that an import should not do."""
import logging, os, signal, socket, subprocess, threading
from pathlib import Path
from celery import signals
from prometheus_client import Counter
os.environ.get("REDIS_URL")
os.environ["SOMETHING"] = "x"
Counter("busy", "x")
logging.basicConfig()
signal.signal(signal.SIGUSR1, lambda *_: None)
threading.Thread(target=threading.Event().wait, daemon=True).start()
signals.worker_ready.connect(lambda **_: None, weak=False)
Path(__file__).with_name("written").write_text("x")
subprocess.run(["true"], check=False)
with socket.socket() as probe:
    probe.connect_ex(("127.0.0.1", 1))
'''


def test_and_the_test_before_would_notice(tmp_path: Path) -> None:
    # The module has a name like ours, so that its reads count as our reads.
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "__init__.py").write_text(BUSY)
    code = (
        "import sys; from tests.support import importing;"
        "importing.LIBRARIES = ('celery.signals', 'prometheus_client');"
        f"sys.path.insert(0, {str(tmp_path)!r}); sys.argv[1:] = ['worker']; importing.main()"
    )

    noted = " ".join(json.loads(run("-c", code))["worker"])

    for effect in (
        "reads REDIS_URL",
        "os.putenv",
        "changes the environment",
        "changes the metrics",
        "changes the log handlers",
        "changes the signal handlers",
        "changes the threads",
        "changes Celery's signals",
        "open('" + str(tmp_path),
        "subprocess.Popen",
        "socket.connect",
    ):
        assert effect in noted, noted


@pytest.mark.parametrize("package", PACKAGES)
def test_a_room_has_few_enough_modules_to_be_seen_at_once(package: str) -> None:
    rooms = Counter(path.parent for path in modules_of(package) if path.name != "__init__.py")

    assert {str(room): count for room, count in rooms.items() if count > MODULES_AT_MOST} == {}


@pytest.mark.parametrize("path", modules_of(*CODE), ids=str)
def test_a_module_is_short_enough_to_be_read(path: Path) -> None:
    assert len((REPOSITORY / path).read_text().splitlines()) <= LINES_AT_MOST


@pytest.mark.parametrize("path", modules_of(*CODE), ids=str)
def test_a_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse((REPOSITORY / path).read_text()))


def test_every_folder_of_code_is_a_package() -> None:
    """Check that no folder lacks `__init__.py`: it would be left out of the wheel, without an error."""
    for folder in {path.parent for path in modules_of(*CODE)}:
        assert (REPOSITORY / folder / "__init__.py").exists(), folder


def test_the_import_rules_hold(tmp_path: Path) -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    require(linter.exists(), "import-linter is not installed")
    ran = subprocess.run(
        [str(linter), "--cache-dir", str(tmp_path)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    contracts = (REPOSITORY / "pyproject.toml").read_text().count("[[tool.importlinter.contracts]]")
    assert f"{contracts} kept, 0 broken" in ran.stdout
