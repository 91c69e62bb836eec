"""The master of a replicated broker is killed, frozen and cut off; Sentinels name another one."""

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.arena import Arena
from tests.chaos.conftest import Measure, Remark
from tests.support.processes import wait_for
from tests.support.replicas import ReplicatedStack

FAILED_OVER_WITHIN = 20


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory, puppet_models: Path) -> Iterator[Arena]:
    arena = Arena(tmp_path_factory.mktemp("replicated"), puppet_models, stack_type=ReplicatedStack)
    try:
        yield arena.start()
    finally:
        arena.close()


@pytest.fixture
def arena(replicated: Arena) -> Iterator[Arena]:
    replicated.begin()
    yield replicated
    replicated.restore()


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP", "cut off"])
@pytest.mark.fault(
    "the master of two is gone",
    "503 or 504 until the Sentinels have made the replica the master; no process ends",
    within=FAILED_OVER_WITHIN,
)
def test_the_master_is_gone(arena: Arena, measure: Measure, remark: Remark, how: str) -> None:
    stack = arena.stack
    assert isinstance(stack, ReplicatedStack)
    arena.ledger.jobs_may_vanish = True
    pids = [process.pid for process in (stack.gateway, *stack.workers)]
    master = stack.master
    with ExitStack() as after, arena.traffic():
        wait_for("jobs are accepted", lambda: arena.ledger.accepted > 10)
        gone = time.monotonic()
        if how == "SIGKILL":
            master.process.kill()
        elif how == "SIGSTOP":
            master.process.signal(signal.SIGSTOP)
            after.callback(master.process.signal, signal.SIGCONT)
        else:
            after.enter_context(master.proxy.with_toxics(timeout=True))
        measure(arena.serves_again(gone, 3 * FAILED_OVER_WITHIN))
        assert stack.master is not master
    assert pids == [process.pid for process in (stack.gateway, *stack.workers)]
    remark(f"{arena.ledger.vanished} of {arena.ledger.accepted} accepted jobs were lost")
