"""`make up`: everything on one machine without Docker, from the Procfile.

It first checks everything that could go wrong, so that a person gets one line instead of the logs of five programs.
"""

import asyncio
import fcntl
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import NoReturn

from headrace.errors import HeadraceError, ModelNotFound
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from scripts import broker, environment
from scripts.greeting import PATIENCE_SECONDS, curl_line, greeting, sample_row, wait_until_ready
from scripts.ports import check_free
from scripts.refusal import Refusal
from scripts.stack import SCRAPE_CONFIG, Ports, Stack
from scripts.supervisor import Supervisor
from shared.settings import CommonSettings, load_settings

ROOT = Path(__file__).parent.parent
RUN = Path(".run")
EXPORTER_ENVIRONMENT = Path(".venv-exporter")
EXPORTER_LOCK = Path("requirements/exporter.txt")
GRAFANA_LEFT_OUT = "only Docker Compose starts it; `make dashboards-preview` draws its dashboards from Prometheus"


def say(text: str) -> None:
    """Print one line for the person at the terminal."""
    print(f"headrace: {text}", flush=True)


@contextmanager
def only_one_here() -> Iterator[None]:
    """Hold `.run/` for this process; two brokers would write to the same file.

    Raises:
        Refusal: if another process holds it.
    """
    RUN.mkdir(exist_ok=True)
    with (RUN / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise Refusal(f"it runs already from this folder, as process {file.read().strip()}") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def plan(unwanted: Mapping[str, str]) -> Stack:
    """Decide what runs, without the unwanted programs, and check that it can.

    Raises:
        Refusal: if it can't.
    """
    ports = Ports.read(os.environ)
    left_out = dict(unwanted)
    if os.environ.get("REDIS_URL"):
        left_out["broker"] = "REDIS_URL names another"
        os.environ["REDIS_URL"] = load_settings(CommonSettings).redis_url
        broker.check_reachable(os.environ["REDIS_URL"])
        if os.environ["REDIS_URL"].startswith("sentinels://"):
            left_out.setdefault("exporter", "it asks no Sentinels over TLS")
    else:
        os.environ["BROKER_SERVER"] = broker.find_server()
        broker.check_not_foreign(ports.broker)
        os.environ["REDIS_URL"] = broker.own_url(ports.broker)
    if not shutil.which("prometheus"):
        left_out.setdefault("prometheus", "no program (Debian: apt install prometheus), so no graphs and no alerts")
    elif not SCRAPE_CONFIG.is_file():
        left_out.setdefault("prometheus", f"{SCRAPE_CONFIG} is missing")
    if not exporter_python():
        left_out.setdefault("exporter", "it needs Python 3.11 or 3.12")
    stack = Stack(ports, os.environ["REDIS_URL"], left_out)
    check_free(stack.used_ports())
    return stack


def exporter_python() -> str | None:
    """Return an interpreter that celery-exporter accepts."""
    if (3, 11) <= sys.version_info < (3, 13):
        return environment.base_python()
    found = (shutil.which(name) for name in ("python3.12", "python3.11"))
    return next((path for path in found if path and starts(path)), None)


def starts(python: str) -> bool:
    """Return True if it runs: version managers put names on PATH that fail."""
    return subprocess.run([python, "-c", ""], check=False, capture_output=True).returncode == 0


def model_to_serve(settings: CommonSettings) -> Manifest:
    """Return the manifest of the default model, which is trained if there is none.

    Raises:
        Refusal: if training fails, or the model can't be read.
    """
    store = ModelStore(settings.model_store)
    try:
        try:
            return store.manifest(settings.default_model)
        except ModelNotFound:
            place = store.root if store.exists() else f"{store.root}, which is a new model store"
            say(f"training, because there is no model {settings.default_model!r} in {place}")
            if train():
                raise Refusal("training failed; it says why above") from None
            return store.manifest(settings.default_model)
    except HeadraceError as error:
        raise Refusal(str(error)) from None


def train() -> int:
    """Train the default model, and return the exit code."""
    command = [sys.executable, "-m", "headrace", "train", "--if-missing"]
    # It has a session of its own, or it would print a traceback at Ctrl-C.
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            raise


def prepare_exporter(left_out: dict[str, str]) -> None:
    """Make the environment of celery-exporter; the rest runs without it too."""
    python = exporter_python()
    if "exporter" in left_out or python is None:
        return
    try:
        environment.ensure(EXPORTER_ENVIRONMENT, [EXPORTER_LOCK], python)
    except (environment.EnvironmentFailed, OSError, subprocess.SubprocessError) as error:
        left_out["exporter"] = str(error)


async def run(stack: Stack, manifest: Manifest) -> int:
    """Run the programs until a signal or until one of them ends; return the exit code."""
    supervisor = Supervisor(stack.programs())
    gateway = stack.ports.gateway.url

    async def announce() -> None:
        problem = await wait_until_ready(gateway, PATIENCE_SECONDS)
        if problem:
            supervisor.say(
                f"not ready after {PATIENCE_SECONDS:.0f} s: {gateway}/readyz {problem}; "
                "look at what gateway and worker say above; still waiting"
            )
            await wait_until_ready(gateway, math.inf)
        line = curl_line(gateway, sample_row(manifest), with_key=bool(os.environ.get("API_KEYS_FILE")))
        supervisor.write(greeting(stack.addresses(), line))

    return await supervisor.run(announce)


def prepare_and_run(unwanted: Mapping[str, str] = MappingProxyType({})) -> int:
    """Check, prepare and run everything, in the order in which errors help a person most.

    Args:
        unwanted: programs to leave out, each with the reason.
    """
    with only_one_here():
        stack = plan(unwanted)
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        # Each worker chooses a folder of its own; in a shared one they would count together.
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
        manifest = model_to_serve(load_settings(CommonSettings))
        left_out = dict(stack.left_out)
        prepare_exporter(left_out)
        stack = replace(stack, left_out=left_out)
        for name, reason in {**left_out, "grafana": GRAFANA_LEFT_OUT}.items():
            say(f"{name} is left out: {reason}")
        for folder in ("redis", "prometheus"):
            (RUN / folder).mkdir(exist_ok=True)
        if "prometheus" not in left_out:
            (RUN / "prometheus.yml").write_text(stack.scrape_config())
        os.environ["BROKER_DIR"] = str(RUN / "redis")
        os.environ.update(stack.environment())
        return asyncio.run(run(stack, manifest))


def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """Treat SIGTERM while preparing like Ctrl-C; later the supervisor handles it."""
    raise KeyboardInterrupt


def main(command: Callable[[], int] = prepare_and_run) -> int:
    """Run a command, and return its exit code; a refusal is one line."""
    os.chdir(ROOT)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        return command()
    except Refusal as refusal:
        print(f"headrace: {refusal}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("headrace: stopped", file=sys.stderr)
        return 0


if __name__ == "__main__":
    raise SystemExit(main())
