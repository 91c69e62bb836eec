"""Memory of jobs: outcomes to come are counted before they come, and owners have accounts."""

import json
import math
import random
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from shared.queue import keys
from tests.support.jobs import JobBoard, New

RECORD_BYTES, KEY_BYTES, ENTRY_BYTES = 2000, 500, 1000
PLACES_BYTES = 100
EARLIER_BYTES = 1000
"""Charge of an earlier version for a record."""
BIG = json.dumps([0] * 1000)


def open_bytes(job: New) -> int:
    """Return the charge of an open job."""
    values = len(job.rows) + len(job.trace) + job.coming
    return RECORD_BYTES + ENTRY_BYTES + KEY_BYTES * bool(job.key) + math.ceil(1.25 * values)


def ended_bytes(record: dict[str, str]) -> int:
    """Return the charge of an ended job."""
    left = ENTRY_BYTES * (record["attempt"] == "0") + KEY_BYTES * ("idempotency" in record)
    return RECORD_BYTES + left + math.ceil(1.25 * len(record.get("outcome", "")))


def made_by_an_earlier_version(board: JobBoard, id_: str, owner: str) -> None:
    """Make the only job of an owner one that an earlier version has accepted or ended."""
    record = board.record(id_)
    board.redis.hdel(keys.job(id_), "charged", "kept")
    account = board.account(owner)
    field = next(field for field in account if field != "open")
    values = len(record.get("rows", "")) + int(record.get("coming", 0)) + len(record.get("outcome", ""))
    board.redis.hset(keys.job_owner(owner), field, EARLIER_BYTES + values)


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
    job = New("a", key="k", owner="alice", trace="t" * 8000, coming=5000)
    board.submit(job)
    assert board.account("alice") == {"open": 1, "bytes": open_bytes(job)}

    board.start("a")
    board.finish("a", outcome=BIG)
    part = str(int((board.clock.seconds + 600) // 600))
    assert board.account("alice") == {part: RECORD_BYTES + KEY_BYTES + math.ceil(1.25 * len(BIG))}
    assert "trace" not in board.record("a")
    most = sum(board.account("alice").values()) + RECORD_BYTES
    assert board.submit(New("b", owner="alice"), owner_bytes_max=most) == [b"owner_bytes"]

    board.clock.pass_(1300)
    assert board.submit(New("b", owner="alice"), owner_bytes_max=most) == [(1, "b", "f")]
    assert part not in board.account("alice")


def test_forgotten_jobs_and_dropped_results_make_room(board: JobBoard) -> None:
    for id_ in "abc":
        board.submit(New(id_, owner="alice"))
        board.start(id_)
        board.finish(id_, outcome=BIG)
        board.clock.pass_(1)
    assert sum(board.account("alice").values()) == 3 * (RECORD_BYTES + math.ceil(1.25 * len(BIG)))

    board.tidy(2 * len(BIG))
    assert sum(board.account("alice").values()) == 3 * RECORD_BYTES + 2 * math.ceil(1.25 * len(BIG))

    for id_ in "abc":
        assert board.delete(id_, "alice") == "forgotten"
    assert sum(board.account("alice").values()) == 3 * PLACES_BYTES, "their ids stay in the lists of jobs"


def test_a_forgotten_job_that_was_never_started_counts_with_its_entry_in_the_queue(board: JobBoard) -> None:
    board.submit(New("a", owner="alice"))
    assert (board.delete("a", "alice"), board.delete("a", "alice")) == ("cancelled", "forgotten")

    assert len(board.queue()) == 1
    assert sum(board.account("alice").values()) == ENTRY_BYTES + PLACES_BYTES


def test_a_failed_job_whose_rows_were_dropped_counts_with_what_is_left(board: JobBoard) -> None:
    outcome = json.dumps({"error": {"code": "x", "message": "m", "rows": list(range(1000))}}).replace(" ", "")
    board.submit(New("a", owner="alice"), New("b", owner="alice"))
    board.finish("a", status="failed", outcome=outcome)
    board.clock.pass_(1)
    board.finish("b", outcome=BIG)

    board.tidy(len(BIG))

    assert len(board.record("a")["outcome"]) < len(outcome)
    assert sum(board.account("alice").values()) == sum(ended_bytes(board.record(id_)) for id_ in "ab")


def test_what_jobs_left_that_ended_without_their_accounts_goes_when_none_is_open(board: JobBoard) -> None:
    """They ended in a worker of an earlier version, or with a damaged record."""
    board.redis.hset(keys.job_owner("alice"), mapping={"open": 99, "bytes": 10**9})
    board.submit(New("other"))
    assert board.submit(New("a", owner="alice"), owner_open_max=5) == [b"owner_open"]
    board.finish("other")

    assert board.submit(New("a", owner="alice"), owner_open_max=5, owner_bytes_max=9000) == [(1, "a", "f")]

    assert board.account("alice") == {"open": 1, "bytes": open_bytes(New("a"))}


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


def test_a_job_that_an_earlier_version_charged_leaves_nothing_when_it_ends(board: JobBoard) -> None:
    board.submit(New("a", key="k", owner="alice", trace="t" * 8000, coming=5000))
    made_by_an_earlier_version(board, "a", "alice")
    board.start("a")

    board.finish("a", outcome=BIG)
    (charged,) = board.account("alice").values()
    assert charged == ended_bytes(board.record("a"))
    board.delete("a", "alice")
    assert sum(board.account("alice").values()) == PLACES_BYTES


@pytest.mark.parametrize("dropped", [False, True])
def test_a_job_that_an_earlier_version_ended_leaves_nothing_when_it_is_forgotten(
    board: JobBoard, dropped: bool
) -> None:
    board.submit(New("a", key="k", owner="alice"))
    board.start("a")
    board.finish("a", outcome=BIG)
    made_by_an_earlier_version(board, "a", "alice")
    if dropped:
        board.submit(New("b"))
        board.finish("b", outcome=BIG)
        board.tidy(len(BIG))
        assert sum(board.account("alice").values()) == EARLIER_BYTES

    board.delete("a", "alice")
    assert sum(board.account("alice").values()) == PLACES_BYTES


@pytest.mark.parametrize("seed", range(3))
def test_accounts_agree_with_the_records_whatever_happens(board: JobBoard, seed: int) -> None:
    chance = random.Random(seed)
    board.tidy(20_000, retention_seconds=100_000)
    ids = [f"job{number}" for number in range(60)]
    owner = {id_: chance.choice(["alice", "bob"]) for id_ in ids}
    new = {
        id_: New(
            id_,
            key=chance.choice(["", id_]),
            rows=chance.choice(["[[1.0]]", f"[{BIG}]"]),
            owner=owner[id_],
            trace=chance.choice(["", "t" * 8001]),
            coming=chance.choice([0, 5000]),
        )
        for id_ in ids
    }
    expected: dict[str, Counter[str]] = {"alice": Counter(), "bob": Counter()}

    def part(record: dict[str, str]) -> str:
        return str(int((float(record["ended_at"]) + 100_000) // 600))

    def delete(id_: str) -> None:
        record = board.record(id_)
        if board.delete(id_, owner[id_]) == "forgotten":
            expected[owner[id_]][part(record)] += PLACES_BYTES + ENTRY_BYTES * (record["attempt"] == "0")

    for id_ in ids:
        board.submit(new[id_], retention_seconds=100_000)
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
            account["bytes"] += open_bytes(new[id_])
        elif record:
            account[part(record)] += ended_bytes(record)
    for name, account in expected.items():
        assert board.account(name) == dict(account)
