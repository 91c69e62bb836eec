"""Redis' clock is set back: jobs are looked after all the same, and the newest results stay."""

import json

from shared.queue import keys
from tests.support.jobs import CHECK_SECONDS, LEASE_SECONDS, JobBoard, New

HOUR = 3600.0
BIG = json.dumps([0] * 1000)


def test_a_lease_from_before_ends_like_one_that_begins_now(board: JobBoard) -> None:
    board.submit(New("a"), envelope=board.envelope())
    board.start("a")
    board.redis.delete("bulk")
    board.clock.pass_(-HOUR)

    assert board.reconcile("a") == "waiting"
    assert board.next_check("a") == board.clock.seconds + LEASE_SECONDS
    board.clock.pass_(LEASE_SECONDS)

    assert board.reconcile("a") == "republished"
    assert board.start("a") == [2]


def test_a_lease_that_is_as_long_as_leases_are_stays(board: JobBoard) -> None:
    board.submit(New("a"))
    board.start("a", lease_seconds=2 * LEASE_SECONDS)

    assert board.reconcile("a") == "waiting"
    assert board.next_check("a") == board.clock.seconds + 2 * LEASE_SECONDS


def test_an_entry_from_before_is_older_than_a_job_from_after(board: JobBoard) -> None:
    board.submit(New("before"), envelope=board.envelope())
    board.clock.pass_(-HOUR)
    board.submit(New("after"), envelope=board.envelope())
    board.clock.pass_(CHECK_SECONDS)

    assert [board.reconcile(id_) for id_ in ("before", "after")] == ["waiting"] * 2
    assert len(board.queue()) == 2


def test_an_entry_from_after_shows_that_those_from_before_are_gone(board: JobBoard) -> None:
    board.submit(New("before"), envelope=board.envelope())
    board.redis.delete("bulk")
    board.clock.pass_(-HOUR)
    board.submit(New("after"), envelope=board.envelope())
    board.clock.pass_(CHECK_SECONDS)

    assert [board.reconcile(id_) for id_ in ("before", "after")] == ["republished", "waiting"]


def test_the_newest_results_stay_and_those_from_before_go_first(board: JobBoard) -> None:
    board.tidy(2 * len(BIG))
    for id_ in ("before1", "before2"):
        board.submit(New(id_))
        board.finish(id_, outcome=BIG)
    board.clock.pass_(-HOUR)

    for id_ in ("after1", "after2", "after3"):
        board.submit(New(id_))
        board.finish(id_, outcome=BIG)
        board.clock.pass_(1)

    kept = [value.split()[0].decode() for value in board.redis.zrange(keys.JOB_RESULTS, 0, -1)]
    assert kept == ["after2", "after3"]


def test_the_only_result_stays_also_if_it_is_from_before(board: JobBoard) -> None:
    board.submit(New("before"))
    board.finish("before", outcome=BIG)
    board.clock.pass_(-HOUR)

    board.tidy(1)

    assert "outcome" in board.record("before")
