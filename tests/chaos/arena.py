"""The setting of every row: a stack with proxies before its broker, under load whose answers are recorded."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from shared.queue import keys
from shared.queue.heartbeat import STALLED
from tests.chaos import oracle
from tests.chaos.ledger import Lateness, Ledger, Question, question
from tests.chaos.proxy import FaultProxy
from tests.chaos.traffic import Client, Traffic
from tests.support.processes import REPOSITORY, Process, free_port, wait_for
from tests.support.puppet import PUPPET_FOLDER
from tests.support.stack import Stack

TASK_TIME_LIMIT_SECONDS = 3.0
LEASE_SECONDS = TASK_TIME_LIMIT_SECONDS + 5
VISIBILITY_SECONDS = TASK_TIME_LIMIT_SECONDS + 10

SHIFTED_CLOCK = str(REPOSITORY / "tests" / "support" / "shifted_clock")

OPTIONS = {
    "TASK_SOFT_TIME_LIMIT_SECONDS": "2",
    "TASK_TIME_LIMIT_SECONDS": f"{TASK_TIME_LIMIT_SECONDS:g}",
    "JOB_CHECK_SECONDS": "0.5",
    "DEFAULT_MODEL": "puppet",
    "PREDICT_DEADLINE_SECONDS": "2",
    "RESULT_MAX_BYTES": "100000",
    # Shorter than many faults, so that no fault looks as if the worker had stopped by itself.
    "WORKER_STALLED_SECONDS": "15",
}


class Arena:
    """A stack that many rows use: each row starts with a new ledger, and leaves everything running."""

    def __init__(
        self,
        folder: Path,
        models: Path,
        workers: int = 2,
        broker_folder: Path | None = None,
        stack_type: type[Stack] = Stack,
        **options: str,
    ) -> None:
        marks = folder / "marks"
        marks.mkdir()
        gateway_port, worker_port = free_port(), free_port()
        settings: dict[str, Any] = {**OPTIONS, PUPPET_FOLDER: str(marks), **options}
        self.stack = stack_type(
            folder,
            models,
            workers=workers,
            gateway_redis_port=gateway_port,
            worker_redis_port=worker_port,
            broker_folder=broker_folder,
            **settings,
        )
        self.gateway_proxy = FaultProxy(gateway_port, self.stack.broker_port)
        self.worker_proxy = FaultProxy(worker_port, self.stack.broker_port)
        self._lateness = Lateness()
        self.ledger = Ledger(self._lateness)
        self._accepted_before = 0
        self.client = Client(self.stack.url, self.ledger)

    @property
    def slots(self) -> int:
        """Number of pool children when all workers run."""
        return self.stack.concurrency * len(self.stack.workers)

    def start(self) -> "Arena":
        """Start the proxies and the stack."""
        self.gateway_proxy.start()
        self.worker_proxy.start()
        self.stack.start()
        self.stack.wait_for_slots(self.slots)
        return self

    def close(self) -> None:
        """Thaw all processes and end the stack."""
        self.thaw()
        self.client.close()
        try:
            self.stack.close()
        finally:
            self.gateway_proxy.close()
            self.worker_proxy.close()
            self._lateness.close()

    def begin(self) -> None:
        """Start a new row with a new ledger."""
        self.ledger = Ledger(self._lateness)
        self._accepted_before = self.stack.jobs()["accepted"]
        self.client.close()
        self.client = Client(self.stack.url, self.ledger)

    def restore(self) -> None:
        """Undo the effects of a row, so that the next can start."""
        self.thaw()
        for proxy in (self.gateway_proxy, self.worker_proxy):
            proxy.heal()
        self.stack.mend_broker()
        for process in (self.stack.gateway, *self.stack.workers):
            if not process.running:
                process.start()
        self.stack.wait_ready()
        self.stack.wait_for_slots(self.slots)

    @contextmanager
    def shifted_clocks(self, gateway: float, worker: float) -> Iterator[None]:
        """Restart the gateway and the first worker with wall clocks that are off by these seconds, and back."""
        shifted = {self.stack.gateway: gateway, self.stack.workers[0]: worker}
        for process, seconds in shifted.items():
            process.stop()
            process.environment |= {"PYTHONPATH": SHIFTED_CLOCK, "CLOCK_SHIFT_SECONDS": f"{seconds:g}"}
        self.restore()
        try:
            yield
        finally:
            for process in shifted:
                process.stop()
                del process.environment["PYTHONPATH"], process.environment["CLOCK_SHIFT_SECONDS"]
            self.restore()

    def thaw(self) -> None:
        """Send SIGCONT to all processes."""
        for process in (self.stack.broker, self.stack.gateway, *self.stack.workers):
            if process.running:
                thaw(process)

    def submit(self, asked: Question, key: str | None = None) -> str:
        """Submit a job that must be accepted, and return its id."""
        job_id = self.client.submit(asked, key)
        assert job_id is not None, "not accepted"
        return job_id

    def wait_for_end(self, job_id: str, seconds: float) -> None:
        """Wait until a job has ended, and check its outcome."""
        wait_for("the job ends", lambda: self.client.look_up(job_id, wait_seconds=0.5), seconds)

    def traffic(self, **options: float) -> Traffic:
        """Return a context manager that generates load."""
        return Traffic(self.stack.url, self.ledger, **options)  # type: ignore[arg-type]

    def check(self) -> None:
        """Check the invariants for everything that happened since `begin`."""
        oracle.check(self.stack, self.ledger, self._accepted_before)
        assert self.stack.redis.hget(keys.WORKER_COUNTS, STALLED) is None, "a worker took itself for stalled"

    def lost(self, since: float) -> float:
        """Return the sum of this machine's delays since then, in seconds."""
        return self._lateness.lost(since)

    def serves_again(self, since: float, patience_seconds: float) -> float:
        """Return the seconds from `since` (`time.monotonic()`) until a call is answered and a new job has succeeded."""
        asked = question(5)

        def answered() -> bool:
            response = self.client.predict(asked, 1.0)
            return response is not None and response.status_code == 200

        wait_for("calls are answered", answered, patience_seconds)
        job_id = wait_for("a job is accepted", lambda: self.client.submit(asked), patience_seconds)
        self.wait_for_end(job_id, patience_seconds)
        return time.monotonic() - since


def freeze(process: Process) -> None:
    """Send SIGSTOP to a process and all its children."""
    for pid in (process.pid, *process.children()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)


def thaw(process: Process) -> None:
    """Send SIGCONT to a process and all its children."""
    for pid in (process.pid, *process.children()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
