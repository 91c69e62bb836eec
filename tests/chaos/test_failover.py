"""The master of a replicated broker is killed, frozen, cut off and demoted; Sentinels name another one."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.arena import Arena
from tests.chaos.conftest import FAILED, Measure, Remark
from tests.chaos.ledger import question
from tests.support.processes import Process, wait_for
from tests.support.replicas import ReplicatedStack

FAILED_OVER_WITHIN = 20

whole = pytest.mark.whole_chaos

NewArena = Callable[[str], Arena]


@pytest.fixture(scope="module")
def new_arena(tmp_path_factory: pytest.TempPathFactory, puppet_models: Path) -> Iterator[NewArena]:
    """Yield a function that returns the arena for a number of replicas that confirm a job."""
    arenas: dict[str, Arena] = {}

    def make(replicas_ack: str) -> Arena:
        if replicas_ack not in arenas:
            for other in list(arenas):
                # Two would take the processors from each other.
                arenas.pop(other).close()
            folder = tmp_path_factory.mktemp("replicated")
            arena = Arena(folder, puppet_models, stack_type=ReplicatedStack, JOB_REPLICAS_ACK=replicas_ack)
            arenas[replicas_ack] = arena
            arena.start()
        return arenas[replicas_ack]

    yield make
    for arena in arenas.values():
        arena.close()


@pytest.fixture
def arena(request: pytest.FixtureRequest, new_arena: NewArena) -> Iterator[Arena]:
    """Return an arena whose broker is replicated, with the option of the row."""
    arena = new_arena(request.getfixturevalue("replicas_ack"))
    arena.begin()
    # With the option, no acknowledged job may be lost.
    arena.ledger.jobs_may_vanish = request.getfixturevalue("replicas_ack") == "0"
    yield arena
    if not request.node.stash.get(FAILED, False):
        arena.restore()


@pytest.mark.parametrize(
    ("how", "replicas_ack"),
    [
        *(
            pytest.param(how, "0", id=how, marks=whole)
            for how in ("SIGKILL", "SIGSTOP", "cut off", "SENTINEL FAILOVER")
        ),
        pytest.param("SIGKILL", "1", id="SIGKILL, JOB_REPLICAS_ACK=1"),
        pytest.param("SIGSTOP", "1", id="SIGSTOP, JOB_REPLICAS_ACK=1", marks=whole),
        pytest.param("cut off", "1", id="cut off, JOB_REPLICAS_ACK=1"),
        pytest.param("SENTINEL FAILOVER", "2", id="SENTINEL FAILOVER, JOB_REPLICAS_ACK=2", marks=whole),
    ],
)
@pytest.mark.fault(
    "the master of three is gone",
    "503 or 504 until Sentinels, after 1 s, have made a replica the master; no process ends",
    within=FAILED_OVER_WITHIN,
)
def test_the_master_is_gone(arena: Arena, measure: Measure, remark: Remark, how: str, replicas_ack: str) -> None:
    stack = _replicated(arena)
    pids = [process.pid for process in _processes(stack)]
    master = stack.master
    with ExitStack() as afterwards, arena.traffic():
        wait_for("jobs are accepted", lambda: arena.ledger.accepted > 10)
        gone = time.monotonic()
        if how == "SIGKILL":
            master.process.kill()
        elif how == "SIGSTOP":
            master.process.signal(signal.SIGSTOP)
            afterwards.callback(master.process.signal, signal.SIGCONT)
        elif how == "cut off":
            afterwards.enter_context(master.proxy.with_toxics(timeout=True))
        else:
            stack.fail_over()
        measure(arena.serves_again(gone, 3 * FAILED_OVER_WITHIN))
        assert stack.master is not master
    assert pids == [process.pid for process in _processes(stack)]
    _remark_losses(arena, remark)


@pytest.mark.parametrize(
    "replicas_ack", [pytest.param("1", id="JOB_REPLICAS_ACK=1"), pytest.param("0", id="as it is", marks=whole)]
)
@pytest.mark.fault(
    "replicas receive nothing, then the master is killed",
    "lost is what the dead master alone had acknowledged; with the option nothing is, but 503 not_replicated",
    within=FAILED_OVER_WITHIN,
)
def test_replicas_lag_behind(arena: Arena, measure: Measure, remark: Remark, replicas_ack: str) -> None:
    stack = _replicated(arena)
    master = stack.master
    for number in range(20):
        arena.submit(question(number))
    wait_for("the replicas have them", lambda: stack.redis.wait(2, 1000) == 2)
    master.silence_replicas()
    accepted = arena.ledger.accepted
    for number in range(20):
        arena.client.submit(question(number))
    assert arena.ledger.accepted - accepted == (0 if replicas_ack == "1" else 20)
    master.process.kill()
    measure(arena.serves_again(time.monotonic(), 3 * FAILED_OVER_WITHIN))
    _settle(arena)
    assert arena.ledger.vanished == (0 if replicas_ack == "1" else 20)
    _remark_losses(arena, remark)


def _replicated(arena: Arena) -> ReplicatedStack:
    assert isinstance(arena.stack, ReplicatedStack)
    return arena.stack


def _processes(stack: ReplicatedStack) -> list[Process]:
    return [stack.gateway, *stack.workers]


def _settle(arena: Arena) -> None:
    """Look up all jobs until each has ended, or is unknown."""

    def all_ended() -> bool:
        return all(arena.client.look_up(job_id, wait_seconds=1) for job_id in list(arena.ledger.open_jobs))

    wait_for("all jobs end", all_ended)


def _remark_losses(arena: Arena, remark: Remark) -> None:
    _settle(arena)
    remark(f"{arena.ledger.vanished} of {arena.ledger.accepted} acknowledged jobs were lost")
