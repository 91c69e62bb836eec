"""Hypothesis searches for an order of submitting, polling, cancelling and killing that breaks an invariant."""

import os
import signal
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from tests.chaos.arena import VISIBILITY_SECONDS, Arena
from tests.chaos.conftest import WHOLE
from tests.chaos.ledger import question
from tests.support.processes import wait_for

IN_CI = os.environ.get(WHOLE) != "1"
NUMBERS = st.integers(0, 255)


class Machine(RuleBasedStateMachine):
    """The possible steps, in any order."""

    arena: ClassVar[Arena]

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[str] = []

    @rule(number=NUMBERS, slow=st.booleans())
    def submit(self, number: int, slow: bool) -> None:
        job = self.arena.client.submit(question(number, sleep_seconds=0.2 if slow else 0.0))
        if job is not None:
            self.jobs.append(job)

    @rule(number=NUMBERS)
    def call(self, number: int) -> None:
        self.arena.client.predict(question(number), 2.0)

    @rule(at=st.integers(0, 20))
    def poll(self, at: int) -> None:
        if self.jobs:
            self.arena.client.look_up(self.jobs[at % len(self.jobs)])

    @rule(at=st.integers(0, 20))
    def cancel(self, at: int) -> None:
        if self.jobs:
            self.arena.client.cancel(self.jobs[at % len(self.jobs)])

    @rule(at=st.integers(0, 3))
    def kill_a_child(self, at: int) -> None:
        children = [pid for worker in self.arena.stack.workers for pid in worker.children()]
        if children:
            os.kill(children[at % len(children)], signal.SIGKILL)

    @rule(at=st.integers(0, 1))
    def kill_a_worker(self, at: int) -> None:
        worker = self.arena.stack.workers[at]
        worker.kill()
        worker.start()

    @rule()
    def restart_the_broker(self) -> None:
        self.arena.stack.broker.kill()
        self.arena.stack.start_broker()

    def teardown(self) -> None:
        self.arena.restore()
        self.arena.check()


@pytest.mark.timeout(120 if IN_CI else 1200)
@pytest.mark.fault(
    "orders of submit, poll, cancel, kill and restart that Hypothesis generates",
    "all invariants",
    within=VISIBILITY_SECONDS,
)
def test_any_order(arena: Arena) -> None:
    arena.ledger.jobs_may_fail = True
    Machine.arena = arena
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=2 if IN_CI else 20,
            stateful_step_count=15 if IN_CI else 30,
            derandomize=True,
            database=None,
            deadline=None,
            # Shrinking would play everything again, and the failure depends on time.
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
    wait_for("nothing is open", lambda: not arena.ledger.open_jobs)
