import os
import time

from bench.resources import busy_seconds, cpu_seconds, load_seconds, pss_bytes, tree
from bench.unmetered import GATEWAY_METHODS, WORKER_METHODS
from gateway.metrics import GatewayMetrics
from worker.metrics.model import ModelMetrics


def test_this_process_costs_time_and_memory() -> None:
    before, until = cpu_seconds([os.getpid()]), time.process_time() + 0.1
    while time.process_time() < until:
        pass
    assert cpu_seconds([os.getpid()]) >= before + 0.05
    assert pss_bytes([os.getpid()]) > 1_000_000


def test_what_this_process_burns_is_load_and_busy() -> None:
    load, busy, until = load_seconds(), busy_seconds(), time.process_time() + 0.2
    while time.process_time() < until:
        pass
    assert load_seconds() >= load + 0.15
    assert busy_seconds() >= busy + 0.1


def test_descendants_belong_to_a_tree() -> None:
    assert os.getpid() in tree([os.getppid()])


def test_a_process_that_has_ended_costs_nothing() -> None:
    assert cpu_seconds([2**22 + 1]) == pss_bytes([2**22 + 1]) == 0


def test_what_is_patched_away_is_there() -> None:
    assert all(callable(getattr(GatewayMetrics, method)) for method in GATEWAY_METHODS)
    assert all(callable(getattr(ModelMetrics, method)) for method in WORKER_METHODS)
