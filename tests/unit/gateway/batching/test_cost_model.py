import random
from collections.abc import Callable

import pytest

from gateway.batching.cost_model import FIRST_ROWS_MAX, RECENT, BatchCost

TARGET = 0.02


def batches(seconds: Callable[[int], float], number: int, rows_max: int = 512) -> tuple[BatchCost, list[int]]:
    """Return the rows of batches as large as allowed, one after another, with compute times up to 40 % off."""
    chance = random.Random(0)
    cost, sizes = BatchCost(), [1]
    for _ in range(number):
        cost.observe(sizes[-1], seconds(sizes[-1]) * chance.uniform(0.9, 1.4))
        sizes.append(min(rows_max, cost.rows_within(TARGET)))
    return cost, sizes


def test_a_batch_of_a_cheap_model_may_be_large_at_once() -> None:
    cost, sizes = batches(lambda rows: 0.0002 + rows * 2e-6, 1)
    assert sizes[1] > 50
    assert not cost.is_slow(TARGET)


def test_rows_fill_the_time_that_a_batch_may_take() -> None:
    cost, sizes = batches(lambda rows: 0.001 + rows * 0.001, 100)
    assert 6 <= min(sizes[20:]) <= max(sizes[20:]) <= 32
    assert not cost.is_slow(TARGET)


def test_a_model_that_costs_the_same_for_any_rows_gets_large_batches() -> None:
    # One row alone takes longer than the target, as with a forest of many trees.
    cost, sizes = batches(lambda rows: 0.05 + rows * 1e-5, 30)
    assert sizes[-1] == 512
    assert cost.is_slow(TARGET)


def test_a_model_whose_rows_are_dear_gets_batches_of_one() -> None:
    cost, sizes = batches(lambda rows: rows * 0.05, 100)
    assert set(sizes[10:]) == {1}
    assert cost.is_slow(TARGET)


def test_the_first_batch_is_bounded() -> None:
    assert BatchCost().rows_within(TARGET) == FIRST_ROWS_MAX


def test_larger_batches_are_tried_step_by_step() -> None:
    cost = BatchCost()
    cost.observe(3, 0.015)
    assert cost.rows_within(TARGET) == 6


def test_where_all_batches_are_alike_and_too_long_half_of_one_is_tried() -> None:
    cost = BatchCost()
    cost.observe(32, 0.05)
    assert cost.rows_within(TARGET) == 16


def test_it_follows_a_model_that_becomes_slower() -> None:
    cost, _ = batches(lambda rows: rows * 1e-4, 50)
    assert cost.rows_within(TARGET) > 100
    for _ in range(100):
        rows = cost.rows_within(TARGET)
        cost.observe(rows, rows * 0.002)
    assert cost.rows_within(TARGET) < 40


def test_it_follows_a_model_that_becomes_quicker() -> None:
    cost, sizes = batches(lambda rows: rows * 0.05, 50)
    assert sizes[-1] == 1
    for _ in range(60):
        rows = cost.rows_within(TARGET)
        cost.observe(rows, 0.0002 + rows * 1e-6)
    assert cost.rows_within(TARGET) > 500


@pytest.mark.parametrize(("seconds", "slow"), [(0.001, False), (0.03, False), (0.05, True)])
def test_slow_is_what_takes_much_longer_than_the_target_for_one_row(seconds: float, slow: bool) -> None:
    cost = BatchCost()
    assert cost.is_slow(TARGET), "nobody knows yet"
    cost.observe(1, seconds)
    assert cost.is_slow(TARGET) is slow


def test_cheap_batches_do_not_hide_that_others_of_their_size_are_slow() -> None:
    now = [100.0]
    cost = BatchCost(lambda: now[0])
    for seconds in (1.0, *[0.001] * 1000):
        cost.observe(500, seconds)
    assert cost.is_slow(TARGET, 500)
    assert not cost.is_slow(TARGET, 1), "a short text has never cost much"
    for _ in range(400):
        now[0] += 1
        cost.observe(500, 0.001)
    assert not cost.is_slow(TARGET, 500)


def test_many_quick_rows_do_not_hide_a_slow_one() -> None:
    now = [100.0]
    cost = BatchCost(lambda: now[0])
    cost.observe(1, 12.0)
    for _ in range(7):
        now[0] += 1
        for _ in range(100):
            cost.observe(1000, 0.01, 1)
    assert cost.is_slow(TARGET, 1)


def test_texts_that_cost_more_than_others_of_their_length_make_no_short_one_slow() -> None:
    cost = BatchCost()
    for rows in (1, 2, 4, 8):
        cost.observe(rows, rows * 0.0001)
    for seconds in (*[0.02] * 60, *[3.0] * 20):
        cost.observe(600, seconds)
    assert cost.is_slow(TARGET, 600)
    assert not cost.is_slow(TARGET, 1)
    assert cost.rows_within(TARGET) < 600


def test_texts_whose_cost_grows_faster_than_their_length_make_no_short_one_slow() -> None:
    cost = BatchCost()
    for _ in range(20):
        cost.observe(1, 0.002)
        cost.observe(100, 11.0)
    assert cost.is_slow(TARGET, 100)
    assert not cost.is_slow(TARGET, 1)


def test_a_cheap_batch_of_long_ago_hides_nothing() -> None:
    now = [100.0]
    cost = BatchCost(lambda: now[0])
    cost.observe(1, 0.002)
    for _ in range(RECENT):
        now[0] += 1
        cost.observe(100, 11.0)
    assert cost.is_slow(TARGET, 1)


def test_a_model_with_a_long_batch_is_slow_for_minutes() -> None:
    now = [100.0]
    cost = BatchCost(lambda: now[0])
    cost.observe(1000, 3.0, 1)
    for _ in range(200):
        cost.observe(1000, 0.01, 1)
    assert cost.is_slow(TARGET, 1), "rows that are cheap alone may be dear together"
    for _ in range(400):
        now[0] += 1
        cost.observe(1000, 0.01, 1)
    assert not cost.is_slow(TARGET, 1)
