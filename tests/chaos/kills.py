"""Random kills of a pool child, a worker, the gateway or the broker."""

import os
import random
import signal
from contextlib import suppress

from tests.support.processes import pause
from tests.support.stack import Stack

LOADING_SECONDS = 120.0
"""Longest time in seconds that a broker with millions of records takes to read its file."""


def kill_a_child(stack: Stack, chance: random.Random) -> None:
    """Kill one child of one of the workers with SIGKILL."""
    children = [pid for worker in stack.workers if worker.running for pid in worker.children()]
    if children:
        with suppress(ProcessLookupError):
            os.kill(chance.choice(children), signal.SIGKILL)


def kill_a_worker(stack: Stack, chance: random.Random) -> None:
    """Kill a worker with its children, and start it again."""
    chance.choice(stack.workers).kill()
    start_what_ended(stack)


def kill_the_gateway(stack: Stack, chance: random.Random) -> None:
    """Kill the gateway, and start it again."""
    stack.gateway.kill()
    stack.gateway.start()
    stack.wait_for_gateway()


def kill_the_broker(stack: Stack, chance: random.Random) -> None:
    """Kill the broker, and start it again after up to 2 s."""
    stack.broker.kill()
    pause(chance.uniform(0.0, 2.0))
    stack.start_broker(LOADING_SECONDS)


def start_what_ended(stack: Stack) -> None:
    """Start the processes that have ended, as a supervisor does."""
    for process in (stack.gateway, *stack.workers):
        if not process.running:
            process.start()
