"""The scaling signal: the rule is the formula, and an autoscaler that follows it settles."""

import math
import random
from pathlib import Path
from typing import Any

import pytest

from gateway.admission.scaling import wanted_workers
from monitoring.rules import __main__ as command
from monitoring.rules.scaling import WANTED
from tests.monitoring.autoscaler import Group, turns
from tests.support.promtool import run_rules

RULES = [command.FOLDER / "scaling.yml"]
HOUR = 3600


def series(metric: str, value: float, **labels: str) -> dict[str, Any]:
    """Return a series that has one value for ten minutes."""
    text = ", ".join(f'{name}="{each}"' for name, each in labels.items())
    # promtool knows no repetition of NaN.
    return {"series": f"{metric}{{{text}}}", "values": " ".join([str(value).replace("nan", "NaN")] * 41)}


def worker(instance: str, busy: float, slots: int, **labels: str) -> list[dict[str, Any]]:
    return [
        series("inference_batches_in_progress", busy, job="worker", instance=instance, **labels),
        series("inference_worker_pool_processes", slots, job="worker", instance=instance, **labels),
    ]


def gateway(instance: str, interactive: float, bulk: float, **labels: str) -> list[dict[str, Any]]:
    return [
        series("inference_queue_estimated_wait_seconds", wait, job="gateway", instance=instance, lane=lane, **labels)
        for lane, wait in (("interactive", interactive), ("bulk", bulk))
    ]


def check(folder: Path, given: list[dict[str, Any]], expected: dict[str, float]) -> None:
    """Let promtool record the signal and compare it; `expected` has labels as they are written."""
    samples = [{"labels": f"{WANTED}{labels}", "value": value} for labels, value in expected.items()]
    asked = {"expr": WANTED, "eval_time": "5m", "exp_samples": samples}
    run_rules(folder, RULES, [{"interval": "15s", "input_series": given, "promql_expr_test": [asked]}], "15s")


@pytest.mark.parametrize("seed", range(6))
def test_the_rule_is_the_formula(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    workers = [(float(chance.randint(0, 4)), 4) for _ in range(chance.randint(1, 5))]
    waits = {"interactive": chance.choice([0.0, 0.25, 2.0]), "bulk": chance.choice([0.0, 30.0, 600.0])}
    given = [each for at, (busy, slots) in enumerate(workers) for each in worker(f"w{at}", busy, slots)]
    # The other gateway is behind: the greater wait counts.
    given += gateway("g1", waits["interactive"], waits["bulk"]) + gateway("g2", 0.0, 0.0)
    signal = wanted_workers(sum(busy for busy, _ in workers), 4 * len(workers), waits, 4)
    check(tmp_path, given, {"": signal})


def test_idle_workers_are_not_wanted(tmp_path: Path) -> None:
    check(tmp_path, worker("w1", 0, 2) + gateway("g1", 0, 0), {"": 0})


def test_jobs_have_a_wait_of_their_own(tmp_path: Path) -> None:
    """A quarter of a minute of jobs asks for as much as a quarter of a second of predictions."""
    for folder, waits in (("jobs", (0.0, 15.0)), ("rows", (0.25, 0.0))):
        (tmp_path / folder).mkdir()
        check(tmp_path / folder, worker("w1", 2, 2) + gateway("g1", *waits), {"": 1.25})


def test_a_long_wait_does_not_ask_for_everything_at_once(tmp_path: Path) -> None:
    check(tmp_path, worker("w1", 2, 2) + gateway("g1", 60, 6000), {"": 1.5})


def test_groups_and_namespaces_are_told_apart(tmp_path: Path) -> None:
    given = [
        *worker("w1", 2, 2, namespace="a", worker_group="common"),
        *worker("w2", 1, 4, namespace="a", worker_group="heavy"),
        *worker("w3", 2, 2, namespace="b", worker_group="common"),
        *gateway("g1", 0, 0, namespace="a"),
        *gateway("g2", 1, 0, namespace="b"),
    ]
    expected = {
        '{namespace="a", worker_group="common"}': 1.0,
        '{namespace="a", worker_group="heavy"}': 0.25,
        '{namespace="b", worker_group="common"}': 1.5,
    }
    check(tmp_path, given, expected)


@pytest.mark.parametrize("waits", [[], gateway("g1", math.nan, math.nan)])
def test_busy_slots_count_without_waits(waits: list[dict[str, Any]], tmp_path: Path) -> None:
    check(tmp_path, worker("w1", 2, 2) + worker("w2", 1, 2) + waits, {"": 1.5})


def test_without_workers_there_is_no_signal(tmp_path: Path) -> None:
    """A zero would let the autoscaler think that nobody works."""
    check(tmp_path, gateway("g1", 0, 0), {})


# The autoscaler

LOADS = {
    "a step": lambda now: 7.0 if now >= 300 else 0.5,
    "full slots": lambda now: 6.0,
    "a ramp": lambda now: min(18.0, now / 150),
    "steps up and down": lambda now: 14.0 if 600 <= now < 2400 else 3.0,
}
BURSTS = [(12.0, 20, 120), (30.0, 10, 90), (8.0, 60, 180), (16.0, 45, 400), (20.0, 30, 900)]
"""Slots, seconds, and seconds from one burst to the next."""


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
def test_it_settles_where_the_work_is_done(load: Any) -> None:
    group = Group(load).run(2 * HOUR)
    steady = group.history[-HOUR // 2 :]
    assert len(set(steady)) == 1
    assert group.backlog == pytest.approx(0)
    needed = math.ceil(load(group.now) / group.slots_per_worker)
    assert needed <= steady[-1] <= needed + 1
    assert turns(group.history) <= 1, "up, and down once: after too many, or with the load"
    assert all(left >= busy for left, busy in group.scaled_in)


def test_noise_does_not_move_it() -> None:
    group = Group(lambda now: 6.0 + random.Random(now).uniform(-1.5, 1.5)).run(3 * HOUR)
    assert len(set(group.history[HOUR:])) == 1


@pytest.mark.parametrize(("slots", "lasts", "period"), BURSTS)
def test_bursts_scale_in_once_in_a_window_at_most(slots: float, lasts: int, period: int) -> None:
    group = Group(lambda now: slots if now % period < lasts else 1.0).run(3 * HOUR)
    assert 1 < max(group.history) < group.most
    assert turns(group.history) <= 2 * group.now / group.window_seconds
    assert all(left >= busy for left, busy in group.scaled_in)


def test_a_dead_worker_is_made_up_for_and_then_forgotten() -> None:
    group = Group(lambda now: 7.0).run(HOUR)
    before = group.replicas
    group.lose_a_worker()
    group.run(HOUR)
    assert group.replicas == before
    assert group.backlog == pytest.approx(0)
    assert turns(group.history[HOUR:]) <= 1


def test_a_group_that_is_idle_again_keeps_the_least() -> None:
    group = Group(lambda now: 9.0 if now < 900 else 0.0, least=2).run(HOUR)
    assert max(group.history) > 4
    assert group.replicas == 2
    # Not before the window has passed.
    assert group.history[900 + group.window_seconds - 60] > 2
