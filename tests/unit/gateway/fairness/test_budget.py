import random

import pytest

from gateway.fairness.budget import Budget


def test_an_owner_has_half_and_nobody_else_counts_against_it() -> None:
    budget = Budget(10)
    mallory, victim = budget.share_of("mallory"), budget.share_of("victim")
    for _ in range(5):
        assert mallory.has_room(1)
        mallory.add(1)

    assert not mallory.has_room(1)
    assert victim.has_room(5)
    victim.add(1)
    assert not victim.has_room(5)
    assert (budget.held, budget.counted) == (6, 6)
    mallory.add(-1)
    assert mallory.has_room(1)


def test_without_owners_there_are_no_halves() -> None:
    share = Budget(10).share_of("")
    share.add(9)

    assert share.has_room(1)
    assert not share.has_room(2)


def test_the_halves_of_many_owners_are_not_more_than_the_whole() -> None:
    budget = Budget(10)
    for owner in ("a", "b"):
        budget.share_of(owner).add(5)

    assert not budget.share_of("c").has_room(1)
    assert not budget.share_of("").has_room(1)


def test_what_a_request_holds_already_counts_once() -> None:
    share = Budget(10).share_of("a")
    share.add(3)

    assert share.has_room(5, held=3)
    assert share.has_room(20, held=3), "it is alone"
    share.add(1)
    assert not share.has_room(5, held=3), "another one holds 1"


def test_a_request_larger_than_half_leaves_the_other_half_to_others() -> None:
    budget = Budget(10)
    mallory, victim = budget.share_of("mallory"), budget.share_of("victim")
    assert mallory.has_room(9)
    mallory.add(9)

    assert not mallory.has_room(1)
    assert not victim.has_room(6), "one request at a time is larger than half"
    assert victim.has_room(5)
    victim.add(5)
    assert (budget.held, budget.counted) == (14, 10)
    mallory.add(-9)
    assert (budget.held, budget.counted) == (5, 5)


@pytest.mark.parametrize("limit", [1, 2, 7, 50])
def test_no_order_of_requests_exceeds_the_limit_or_leaves_anything_behind(limit: int) -> None:
    chance, budget = random.Random(limit), Budget(limit)
    held: list[tuple[str, int]] = []
    for _ in range(3000):
        owner, amount = chance.choice(["", "a", "b", "c"]), chance.randint(1, limit)
        if chance.random() < 0.5 and held:
            owner, amount = held.pop(chance.randrange(len(held)))
            budget.share_of(owner).add(-amount)
        elif budget.share_of(owner).has_room(amount):
            held.append((owner, amount))
            budget.share_of(owner).add(amount)
        of = {each: [size for owner, size in held if owner == each] for each in ("a", "b", "c")}
        assert budget.held == sum(size for _, size in held)
        assert budget.counted <= limit
        assert budget.held <= limit + limit // 2
        assert all(sum(sizes) <= budget.half or len(sizes) == 1 for sizes in of.values())
    for owner, amount in held:
        budget.share_of(owner).add(-amount)
    assert (budget.held, budget.counted) == (0, 0)
