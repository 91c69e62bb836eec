from typing import Any

import pytest

from gateway.fairness.answers import PIECE_BYTES, AnswerBudget, in_pieces
from gateway.problems import Problem
from gateway.web.request_context import RequestContext

LARGE = PIECE_BYTES + 1


class Budget:
    """A budget of some large answers, and the requests that hold them."""

    def __init__(self, answers: int = 3) -> None:
        self.rejected: list[str] = []
        self.budget = AnswerBudget(answers * LARGE, self.rejected.append)

    def request(self, size: int, owner: str = "") -> RequestContext:
        context = RequestContext(answers=self.budget, owner=owner)
        context.hold_answer(size)
        return context


def test_large_answers_count_together() -> None:
    at = Budget()
    first, *_ = [at.request(LARGE) for _ in range(3)]

    with pytest.raises(Problem) as caught:
        at.request(LARGE)
    assert (caught.value.status, caught.value.code) == (503, "answers_full")
    assert int(caught.value.headers["Retry-After"]) >= 1
    assert at.rejected == ["answers_full"]

    at.budget.release(first.answer_bytes, first.owner)
    at.request(LARGE)
    assert at.budget.held_bytes == 3 * LARGE


def test_an_owner_has_half_of_the_limit() -> None:
    at = Budget(4)
    first, _ = at.request(LARGE, "a"), at.request(LARGE, "a")

    with pytest.raises(Problem):
        at.request(LARGE, "a")
    at.request(LARGE, "b")
    at.budget.release(first.answer_bytes, first.owner)
    at.request(LARGE, "a")


def test_small_answers_do_not_count() -> None:
    at = Budget()
    contexts = [at.request(PIECE_BYTES) for _ in range(100)]

    assert at.budget.held_bytes == 0
    assert {context.answer_bytes for context in contexts} == {0}


def test_an_answer_counts_once_with_its_largest_size() -> None:
    at = Budget()
    context = at.request(LARGE)
    for size in (10, LARGE, 2 * LARGE, LARGE):
        context.hold_answer(size)

    assert (at.budget.held_bytes, context.answer_bytes) == (2 * LARGE, 2 * LARGE)


def test_an_answer_that_is_alone_is_never_too_large() -> None:
    at = Budget()
    context = at.request(9 * LARGE)
    context.hold_answer(10 * LARGE)

    with pytest.raises(Problem):
        at.request(LARGE)


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, LARGE, 2 * PIECE_BYTES, 5 * PIECE_BYTES + 7])
def test_the_pieces_are_the_body(size: int) -> None:
    body = bytes(at % 251 for at in range(size))
    pieces: list[Any] = list(in_pieces(body))

    assert b"".join(piece for piece, _ in pieces) == body
    assert [follows for _, follows in pieces] == [True] * (len(pieces) - 1) + [False]
    assert max(len(piece) for piece, _ in pieces) <= PIECE_BYTES
