"""Memory of jobs: outcomes to come are counted before they come, and owners have accounts."""

import json
import random
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from shared.queue import keys
from tests.support.jobs import JobBoard, New

RECORD_BYTES = 1000
PLACES_BYTES = 100
ROWS_BYTES = len("[[1.0]]")
BIG = json.dumps([0] * 1000)


def test_jobs_whose_outcomes_would_be_too_large_together_are_refused(board: JobBoard) -> None:
    answers = board.submit(*(New(id_, coming=4000) for id_ in "abc"), New("small"), coming_max=8000)

    assert answers == [(1, "a", "f"), (1, "b", "f"), b"coming", (1, "small", "f")]
    assert board.coming() == 8000
    board.finish("a")
    assert board.submit(New("c", coming=4000), coming_max=8000) == [(1, "c", "f")]
    board.delete("b")
    board.finish("c")
    assert board.coming() == 0


def test_a_job_whose_outcome_is_too_large_alone_is_accepted_if_no_other_comes(board: JobBoard) -> None:
    assert board.submit(New("a", coming=10_000), coming_max=8000) == [(1, "a", "f")]
    assert board.submit(New("b", coming=2000), coming_max=8000) == [b"coming"]


def test_a_refused_job_leaves_nothing(board: JobBoard) -> None:
    board.submit(New("a", coming=8000, owner="alice"))
    before = board.everything()

    refused = New("b", key="k", coming=2000, owner="alice")
    assert board.submit(refused, coming_max=8000) == [b"coming"]
    assert board.submit(refused, owner_open_max=1) == [b"owner_open"]
    assert board.submit(refused, owner_bytes_max=9000) == [b"owner_bytes"]

    assert board.everything() == before


def test_an_owner_may_have_so_many_open_jobs_and_others_have_their_own(board: JobBoard) -> None:
    alice = [New(id_, owner="alice") for id_ in "abc"]

    answers = board.submit(*alice, New("d", owner="bob"), New("e"), owner_open_max=2)

    assert answers == [(1, "a", "f"), (1, "b", "f"), b"owner_open", (1, "d", "f"), (1, "e", "f")]
    board.finish("a")
    assert board.submit(alice[2], owner_open_max=2) == [(1, "c", "f")]
    assert board.account("alice")["open"] == 2


def test_callers_without_keys_have_no_account(board: JobBoard) -> None:
    answers = board.submit(*(New(f"job{number}") for number in range(5)), owner_open_max=1, owner_bytes_max=1)

    assert [answer[0] for answer in answers] == [1] * 5
    assert board.redis.keys(keys.job_owner("*")) == []


def test_open_and_ended_jobs_of_an_owner_count_until_their_records_go(board: JobBoard) -> None:
    board.submit(New("a", owner="alice", coming=5000))
    assert board.account("alice") == {"open": 1, "bytes": RECORD_BYTES + ROWS_BYTES + 5000}

    board.finish("a", outcome=BIG)
    part = str(int((board.clock.seconds + 600) // 600))
    assert board.account("alice") == {part: RECORD_BYTES + len(BIG)}
    most = 2 * RECORD_BYTES + len(BIG)
    assert board.submit(New("b", owner="alice"), owner_bytes_max=most) == [b"owner_bytes"]

    board.clock.pass_(1300)
    assert board.submit(New("b", owner="alice"), owner_bytes_max=most) == [(1, "b", "f")]
    assert part not in board.account("alice")


def test_forgotten_jobs_and_dropped_results_make_room(board: JobBoard) -> None:
    for id_ in "abc":
        board.submit(New(id_, owner="alice"))
        board.finish(id_, outcome=BIG)
        board.clock.pass_(1)
    assert sum(board.account("alice").values()) == 3 * (RECORD_BYTES + len(BIG))

    board.tidy(2 * len(BIG))
    assert sum(board.account("alice").values()) == 3 * RECORD_BYTES + 2 * len(BIG)

    for id_ in "abc":
        assert board.delete(id_, "alice") == "forgotten"
    assert sum(board.account("alice").values()) == 3 * PLACES_BYTES, "their ids stay in the lists of jobs"


def test_a_failed_job_whose_rows_were_dropped_counts_with_what_is_left(board: JobBoard) -> None:
    outcome = json.dumps({"error": {"code": "x", "message": "m", "rows": list(range(1000))}}).replace(" ", "")
    board.submit(New("a", owner="alice"), New("b", owner="alice"))
    board.finish("a", status="failed", outcome=outcome)
    board.clock.pass_(1)
    board.finish("b", outcome=BIG)

    board.tidy(len(BIG))

    left = len(board.record("a")["outcome"])
    assert sum(board.account("alice").values()) == 2 * RECORD_BYTES + left + len(BIG)


def test_what_jobs_left_that_ended_without_their_accounts_goes_when_none_is_open(board: JobBoard) -> None:
    """They ended in a worker of an earlier version, or with a damaged record."""
    board.redis.hset(keys.job_owner("alice"), mapping={"open": 99, "bytes": 10**9})
    board.submit(New("other"))
    assert board.submit(New("a", owner="alice"), owner_open_max=5) == [b"owner_open"]
    board.finish("other")

    assert board.submit(New("a", owner="alice"), owner_open_max=5, owner_bytes_max=9000) == [(1, "a", "f")]

    assert board.account("alice") == {"open": 1, "bytes": RECORD_BYTES + ROWS_BYTES}


def test_replays_are_answered_beyond_every_limit(board: JobBoard) -> None:
    board.submit(New("a", key="k", owner="alice", coming=5000))

    again = New("b", key="k", owner="alice", coming=5000)
    assert board.submit(again, max_open=1, coming_max=1, owner_open_max=1, owner_bytes_max=1) == [(0, "a", "f")]


def test_a_job_that_an_earlier_version_accepted_ends_without_an_account(board: JobBoard) -> None:
    board.submit(New("a", owner="alice", coming=5000))
    board.redis.hdel(keys.job("a"), "coming")
    board.redis.delete(keys.job_owner("alice"), keys.JOB_RESULT_COUNTS)

    assert board.finish("a") == [1]

    assert (board.account("alice"), board.coming()) == ({}, 0)


@pytest.mark.parametrize("seed", range(3))
def test_accounts_agree_with_the_records_whatever_happens(board: JobBoard, seed: int) -> None:
    chance = random.Random(seed)
    board.tidy(20_000, retention_seconds=100_000)
    ids = [f"job{number}" for number in range(60)]
    owner = {id_: chance.choice(["alice", "bob"]) for id_ in ids}
    expected: dict[str, Counter[str]] = {"alice": Counter(), "bob": Counter()}

    def part(record: dict[str, str]) -> str:
        return str(int((float(record["ended_at"]) + 100_000) // 600))

    def delete(id_: str) -> None:
        record = board.record(id_)
        if board.delete(id_, owner[id_]) == "forgotten":
            expected[owner[id_]][part(record)] += PLACES_BYTES

    for id_ in ids:
        board.submit(New(id_, owner=owner[id_], coming=chance.choice([0, 5000])), retention_seconds=100_000)
        picked = chance.choice(ids)
        moves: list[Callable[[], object]] = [
            partial(board.start, picked),
            partial(board.finish, picked, outcome=chance.choice([BIG, "{}"])),
            partial(delete, picked),
            partial(board.tidy, 10_000, retention_seconds=100_000),
        ]
        for move in chance.sample(moves, 2):
            move()
        board.clock.pass_(chance.choice([1, 300]))

    records = {id_: board.record(id_) for id_ in ids}
    coming = sum(int(record.get("coming", 0)) for record in records.values())
    assert board.coming() == coming
    for id_, record in records.items():
        account = expected[owner[id_]]
        if record.get("status") in ("queued", "running"):
            account["open"] += 1
            account["bytes"] += RECORD_BYTES + len(record["rows"]) + int(record["coming"])
        elif record:
            account[part(record)] += RECORD_BYTES + len(record.get("outcome", ""))
    for name, account in expected.items():
        assert board.account(name) == dict(account)
