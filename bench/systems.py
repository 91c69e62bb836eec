"""The compared systems: how each is started, its address and request, and its processes."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from bench.environments import peer_python
from headrace.models.store import ModelStore
from tests.support.processes import Process, free_port, python, wait_for
from tests.support.stack import Stack

START_SECONDS = 40
END_SECONDS = 10


class NotStarted(Exception):
    """The reason why a system does not run, in one line."""


_QUIETLY = ("--no-access-log", "--log-level", "warning")
ROW = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
ONE_ROW = json.dumps(ROW).encode()
ONE_ROW_AS_LIST = json.dumps({"rows": [list(ROW.values())]}).encode()
ONE_ROW_AS_TENSOR = json.dumps(
    {"inputs": [{"name": "rows", "shape": [1, 4], "datatype": "FP64", "data": list(ROW.values())}]}
).encode()


@dataclass
class Running:
    """A running system."""

    url: str
    """URL to which one row is posted."""

    body: bytes
    processes: list[Process]
    """Its parts, with Redis where the system needs it."""

    redis_url: str = ""

    @property
    def pids(self) -> list[int]:
        """Ids of the processes; their descendants belong to the system too."""
        return [process.pid for process in self.processes]


Start = Callable[[Path, Path], AbstractContextManager[Running]]
"""Start a system in a scratch folder, serving the model `iris` of a model store, and end it with the context.

Raises:
    NotStarted: If the system does not answer.
    EnvironmentFailed: If its environment can't be made.
"""


@contextmanager
def headrace(folder: Path, models: Path, **settings: str) -> Iterator[Running]:
    """Start this project: gateway, one worker with two children, Redis with an append-only file."""
    stack = Stack(folder, models, **settings)  # type: ignore[arg-type]
    try:
        stack.start()
        yield Running(f"{stack.url}/predict", ONE_ROW, [stack.broker, stack.gateway, *stack.workers])
    finally:
        stack.close()


@contextmanager
def naive_celery(folder: Path, models: Path, worker: bool = True) -> Iterator[Running]:
    """Start the naive app: uvicorn, one worker with two children, the same Redis. The worker is the last process."""
    stack = Stack(folder, models)
    port = free_port()
    environment = {"REDIS_URL": stack.redis_url, **artifact_environment(folder, models)}
    name = "bench.peers.naive_celery"
    consume = [*python("celery"), "-A", f"{name}:celery_app", "worker", "-c2", "-l", "warning", "--without-gossip"]
    web = Process("web", [*python("uvicorn"), f"{name}:app", "--port", str(port), *_QUIETLY], environment, folder)
    consumer = Process("worker", consume, environment, folder)
    with ExitStack() as stops:
        stops.callback(stack.close)
        stack.start_broker()
        for process in (web, consumer) if worker else (web,):
            process.start()
            stops.callback(_end, process)
        url = f"http://127.0.0.1:{port}"
        if worker:
            _wait(f"{url}/predict", ONE_ROW, web)
        else:
            wait_for("the naive app answers", lambda: _status(f"{url}/docs") == 200, START_SECONDS)
            stops.callback(lambda: _end(consumer) if consumer.running else None)
        yield Running(f"{url}/predict", ONE_ROW, [stack.broker, web, consumer], stack.redis_url)


@dataclass(frozen=True)
class Peer:
    """A system of one program, which gets its port as PORT and the artifact as ARTIFACT."""

    environment_name: str
    """Name of its environment in `.bench/`; empty: this one."""

    arguments: str
    """Arguments of Python; `{port}` is filled in."""

    path: str = "/predict"
    body: bytes = ONE_ROW
    environment: dict[str, str] = field(default_factory=dict)

    def interpreter(self) -> str:
        """Return the Python that runs it.

        Raises:
            EnvironmentFailed: If its environment can't be made.
        """
        return peer_python(self.environment_name) if self.environment_name else sys.executable

    @contextmanager
    def __call__(self, folder: Path, models: Path) -> Iterator[Running]:
        """Start it.

        Raises:
            EnvironmentFailed: If its environment can't be made.
            NotStarted: If it does not answer.
        """
        port = free_port()
        ports = {"PORT": str(port), "GRPC_PORT": str(free_port()), "METRICS_PORT": str(free_port())}
        environment = {**ports, **artifact_environment(folder, models), "HOME": str(folder), **self.environment}
        command = [self.interpreter(), *self.arguments.format(port=port).split()]
        process = Process("peer", command, environment, folder)
        process.start()
        try:
            url = f"http://127.0.0.1:{port}{self.path}"
            _wait(url, self.body, process)
            yield Running(url, self.body, [process])
        finally:
            _end(process)


HEADRACE = "headrace"
PLAIN = "plain app, def"
PLAIN_ASYNC = "plain app, async def"
NAIVE = "naive FastAPI + Celery"
LITSERVE, BENTOML, MLSERVER, MOSEC = "LitServe", "BentoML", "MLServer", "mosec"

_PLAIN = " ".join(["-m uvicorn bench.peers.plain:app --port {port}", *_QUIETLY])

MLSERVER_SUM = Peer(
    "mlserver", "-m bench.peers.mlserver", "/v2/models/iris/infer", ONE_ROW_AS_TENSOR, {"RUNTIME": "Sum"}
)
"""MLServer with the model of its own benchmark; for large tensors, and not among those that are compared."""

SYSTEMS: dict[str, Start] = {
    HEADRACE: headrace,
    PLAIN: Peer("", _PLAIN),
    PLAIN_ASYNC: Peer("", _PLAIN, "/predict-async"),
    NAIVE: naive_celery,
    LITSERVE: Peer("litserve", "-m bench.peers.litserve"),
    BENTOML: Peer(
        "bentoml",
        "-m bentoml serve bench.peers.bentoml:Iris --host 127.0.0.1 --port {port}",
        body=ONE_ROW_AS_LIST,
        environment={"BENTOML_DO_NOT_TRACK": "True"},
    ),
    MLSERVER: Peer("mlserver", "-m bench.peers.mlserver", "/v2/models/iris/infer", ONE_ROW_AS_TENSOR),
    MOSEC: Peer("mosec", "-m bench.peers.mosec --address 127.0.0.1 --port {port}"),
}

WITHOUT_INSTALLS = (HEADRACE, PLAIN, PLAIN_ASYNC, NAIVE)
"""Systems that need no environment of their own."""


def install(name: str) -> None:
    """Make the environment of a system, if it needs one.

    Raises:
        EnvironmentFailed: If it can't be made, with the reason.
    """
    system = SYSTEMS[name]
    if isinstance(system, Peer):
        system.interpreter()


def artifact_environment(folder: Path, models: Path) -> dict[str, str]:
    """Return the environment variables of a peer.

    The artifact as a file, and one BLAS thread per process, as in this project.
    """
    store = ModelStore(models)
    manifest = store.manifest("iris")
    artifact = folder / manifest.artifact.file
    artifact.write_bytes(store.artifact(manifest))
    return {"ARTIFACT": str(artifact), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _wait(url: str, body: bytes, process: Process) -> None:
    def answers() -> bool:
        if not process.running:
            last = process.log().strip().splitlines() or ["without a word"]
            raise NotStarted(f"ended at its start: {last[-1]}")
        return _status(url, body) == 200

    try:
        wait_for("it answers", answers, START_SECONDS)
    except AssertionError as error:
        raise NotStarted(f"did not answer within {START_SECONDS} s") from error


def _end(process: Process) -> None:
    """Stop a peer. One that hangs is killed, so that the measurements are not lost."""
    with suppress(subprocess.TimeoutExpired):
        process.stop(END_SECONDS)


def _status(url: str, body: bytes | None = None) -> int:
    headers = {"Content-Type": "application/json"}
    method = "GET" if body is None else "POST"
    try:
        return httpx.request(method, url, content=body, headers=headers, timeout=15, trust_env=False).status_code
    except httpx.TransportError:
        return 0
