"""A whole stack for integration tests: broker, gateway and workers, each a real process."""

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from scripts.broker import find_server
from shared.master import connect
from tests.support.calls import Calls
from tests.support.exposition import Scrape
from tests.support.processes import Process, free_port, python, wait_for
from tests.support.redis_users import TESTER, redis_users
from tests.support.tls import TlsFiles

MODEL_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "TRUSTED_MODULES": "tests.support.puppet"}


LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=None)
"""httpcore closes idle connections beyond a limit, also one that another thread is about to use."""

MEMORY_BYTES_MIN = 2_000_000_000
"""Free bytes in memory from which on brokers keep their files there."""


class Stack(Calls):
    """A stack that `start` starts and `close` ends. A test can stop, kill and start every part."""

    concurrency = 2

    def __init__(
        self,
        folder: Path,
        models: Path,
        workers: int = 1,
        broker_password: str = "",
        url_options: str = "",
        redis_users: bool = False,
        redis_tls: TlsFiles | None = None,
        gateway_redis_port: int | None = None,
        worker_redis_port: int | None = None,
        broker_folder: Path | None = None,
        **environment: str,
    ) -> None:
        """Ports other than the broker's own are those of proxies in between.

        The broker's data may be in another folder.
        """
        self.folder = folder
        self.models = models
        self.broker_port = free_port()
        secret = f":{broker_password}@" if broker_password else ""
        self.redis_url = f"redis://{secret}127.0.0.1:{self.broker_port}/0{url_options}"
        if redis_tls:
            self.redis_url = f"rediss://127.0.0.1:{self.broker_port}/0?ssl_ca_certs={redis_tls.authority}"
        self._redis_users = redis_users
        self._ports = {"gateway": gateway_redis_port, "worker": worker_redis_port}
        self._environment = {
            "REDIS_URL": self.redis_url,
            "MODEL_STORE": str(models),
            "WORKER_CONCURRENCY": str(self.concurrency),
            **MODEL_ENVIRONMENT,
            **environment,
        }
        access = ["--requirepass", broker_password] if broker_password else []
        self._in_memory = tempfile.TemporaryDirectory(prefix="headrace-broker-", dir=_memory_folder())
        where = broker_folder or Path(self._in_memory.name)
        command = _broker_command(self.broker_port, where, redis_users, redis_tls)
        self.broker = Process("broker", [*command, *access], {}, folder)
        gateway_port = free_port()
        self.url = f"http://127.0.0.1:{gateway_port}"
        self.gateway = Process(
            "gateway",
            python("gateway"),
            {**self._environment, "REDIS_URL": self.url_of("gateway"), "GATEWAY_PORT": str(gateway_port)},
            folder,
        )
        self.metrics_ports: list[int] = []
        self.workers = [self.new_worker() for _ in range(workers)]
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False, limits=LIMITS)
        self.redis = connect(self.url_of("tester"), retry=Retry(NoBackoff(), 1))

    def new_worker(self, **options: str) -> Process:
        """Return one more worker, not started yet."""
        port = free_port()
        number = len(self.metrics_ports) + 1
        self.metrics_ports.append(port)
        counts = self.folder / f"counts{number}"
        environment = {
            "REDIS_URL": self.url_of("worker"),
            "WORKER_METRICS_PORT": str(port),
            "PROMETHEUS_MULTIPROC_DIR": str(counts),
            **options,
        }
        return Process(f"worker{number}", python("worker"), {**self._environment, **environment}, self.folder)

    def url_of(self, user: str) -> str:
        """Return the URL of the broker for one of its users, or of the proxy in front of it."""
        url = self.redis_url.replace(f":{self.broker_port}/", f":{self._ports.get(user) or self.broker_port}/")
        return url.replace("//", f"//{user}:{user}@") if self._redis_users else url

    def start(self) -> "Stack":
        """Start everything and wait until predictions are served."""
        self.start_broker()
        for process in (self.gateway, *self.workers):
            process.start()
        self.wait_ready()
        return self

    def start_without_workers(self) -> "Stack":
        """Start broker and gateway; the workers are left to the test."""
        self.start_broker()
        self.gateway.start()
        self.wait_for_gateway()
        return self

    def start_broker(self, patience_seconds: float = 15.0) -> None:
        """Start the broker and wait until it has read its file and answers."""
        self.broker.start()
        wait_for("the broker answers", self._ping, patience_seconds)

    def mend_broker(self) -> None:
        """Start the broker unless it runs."""
        if not self.broker.running:
            self.start_broker()

    def wait_for_gateway(self) -> None:
        """Wait until the gateway listens, with workers or without."""
        wait_for("the gateway listens", lambda: self.status("/livez") == 200)

    def wait_for_metrics(self) -> None:
        """Wait until every worker serves its metrics: one that has just started announces its slots before."""
        for port in self.metrics_ports:
            wait_for(f"metrics on port {port}", partial(self._serves, port))

    def _serves(self, port: int) -> bool:
        return self.status(f"http://127.0.0.1:{port}/metrics") == 200

    def _ping(self) -> bool:
        try:
            return bool(self.redis.ping())
        except redis.RedisError:
            return False

    def wait_idle(self) -> None:
        """Wait until no worker holds an entry: that of a call is acknowledged after its answer."""
        wait_for("nothing is in hand", lambda: self.redis.hlen("unacked") == 0)

    def wait_computing(self, batches: int) -> None:
        """Wait until the workers compute so many batches. The gateway's probes are entries too, but not counted."""
        urls = [f"http://127.0.0.1:{port}/metrics" for port in self.metrics_ports]
        wait_for(f"{batches} batches run", lambda: Scrape(*urls).total("inference_batches_in_progress") == batches)

    def close(self) -> None:
        """Stop everything, the broker last, since the others return work to it."""
        self.http.close()
        self.redis.close()
        try:
            with ThreadPoolExecutor() as pool:
                # Each part is stopped even if another does not stop in time.
                list(pool.map(Process.stop, [each for each in (self.gateway, *self.workers) if each.running]))
        finally:
            if self.broker.running:
                self.broker.stop()
            self._in_memory.cleanup()

    def logs(self) -> str:
        """Return the output of all processes, for a failing test."""
        return "\n".join(f"--- {process.name}\n{process.log()}" for process in (self.gateway, *self.workers))


def _memory_folder() -> Path | None:
    """Return a folder in memory, if there is one with enough room.

    A killed Redis may lose what it wrote while an `fsync` lasted, which on the disk of a busy machine it does.
    """
    memory = Path("/dev/shm")
    has_room = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > MEMORY_BYTES_MIN
    return memory if has_room else None


def _broker_command(port: int, folder: Path, users: bool, tls: TlsFiles | None) -> list[str]:
    where = ["--port", "0", "--tls-port", str(port), *tls.options()] if tls else ["--port", str(port)]
    options = [*where, "--bind", "127.0.0.1", "--dir", str(folder), "--save", "", "--appendonly", "yes"]
    memory = ["--hash-max-listpack-value", "256"]
    server = find_server()
    return [server, *options, *memory, *([*redis_users(server), TESTER] if users else [])]
