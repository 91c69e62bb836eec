"""Every transition of a job, from every state."""

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.queue import job_scripts, keys
from shared.queue.contract import OUTCOMES
from tests.support.jobs import CHECK_SECONDS, GRACE_SECONDS, OPEN_STATUSES, QUEUE, JobBoard, New

LUA = Path(job_scripts.__file__).parent / "lua"
SCRIPTS = sorted({path.stem for path in LUA.glob("*.lua")} - {*job_scripts.PARTS, job_scripts.RESULTS})
LEASE_SECONDS = 35
RETENTION_SECONDS = 600
EXPIRY_SECONDS = 3600

EVERY_OUTCOME = [outcome.value for outcome in OUTCOMES]


def bring_to(board: JobBoard, state: str, id_: str = "a") -> None:
    """Bring a job to a state; `lease over` is running, without news from its process for too long."""
    if state == "unknown":
        return
    board.submit(New(id_), envelope=board.envelope())
    if state in ("running", "lease over"):
        board.start(id_)
    if state == "lease over":
        board.clock.pass_(LEASE_SECONDS)
    bring_to_outcome(board, state, id_)


def bring_to_outcome(board: JobBoard, state: str, id_: str = "a") -> None:
    """End a queued job, if the state is an outcome."""
    if state in ("succeeded", "failed"):
        board.start(id_)
        board.finish(id_, status=state, outcome=json.dumps({"first": state}))
    if state == "cancelled":
        board.delete(id_)
    if state == "expired":
        board.clock.pass_(EXPIRY_SECONDS)
        board.start(id_)


# --- the scripts as files


def test_every_script_is_tested_here() -> None:
    assert SCRIPTS == ["claim", "delete", "finish", "list", "read", "reconcile", "release", "start", "submit", "tidy"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_the_common_parts_and_then_itself(name: str) -> None:
    source = job_scripts.script(name)
    accounts = ["results"] if name in ("delete", "finish", "tidy") else []

    parts = ["prelude", "damage", "transitions", *accounts, name]
    assert source == "".join((LUA / f"{part}.lua").read_text() for part in parts)
    assert source.startswith("-- Put before every script.")


def test_a_script_that_is_none_is_not_found() -> None:
    with pytest.raises(FileNotFoundError):
        job_scripts.script("explode")


@pytest.mark.parametrize("name", SCRIPTS)
def test_outcomes_are_written_in_the_transitions_only(name: str) -> None:
    own = (LUA / f"{name}.lua").read_text()

    assert "'ended_at', NOW" not in own
    assert "ZREM" not in own or name == "reconcile", "and reconcile removes what has an outcome already"


# --- submit


def test_a_submitted_job_has_its_record_its_place_its_count_and_its_message(board: JobBoard) -> None:
    now = board.clock.seconds

    answers = board.submit(New("a", rows="[[1.5,2]]", single=0, fingerprint="print"), envelope="the message")

    assert answers == [(1, "a", "print")]
    assert board.record("a") == {
        "status": "queued",
        "model": "iris",
        "version": "v1",
        "rows": "[[1.5,2]]",
        "single": "0",
        "attempt": "0",
        "max_attempts": "3",
        "retention_seconds": str(RETENTION_SECONDS),
        "coming": "0",
        "accepted_at": f"{now:.6f}",
        "published_at": f"{now:.6f}",
        "expires_at": f"{now + EXPIRY_SECONDS:.6f}",
    }
    assert board.next_check("a") == now + CHECK_SECONDS
    assert board.counts() == {"accepted": 1}
    assert board.queue() == [b"the message"]


def test_jobs_that_are_submitted_together_share_one_message(board: JobBoard) -> None:
    board.submit(New("a"), New("b"), New("c"))

    assert board.queue() == [b"message"]
    assert [board.status(id_) for id_ in "abc"] == ["queued"] * 3
    assert board.counts() == {"accepted": 3}


def test_a_job_that_waits_is_kept_however_long_it_takes(board: JobBoard) -> None:
    board.submit(New("a"))

    assert board.ttl("a") is None


@pytest.mark.parametrize(("already_open", "accepted"), [(7, 3), (8, 2), (9, 1), (10, 0)])
def test_only_the_jobs_that_are_too_many_are_refused(board: JobBoard, already_open: int, accepted: int) -> None:
    board.submit(*(New(f"open{i}") for i in range(already_open)))

    answer = board.submit(New("a"), New("b"), New("c", key="k"), max_open=10)

    assert [made is not None for made in answer] == [i < accepted for i in range(3)]
    assert board.counts() == {"accepted": already_open + accepted}
    assert [board.status(id_) for id_ in "abc"] == ["queued"] * accepted + [None] * (3 - accepted)
    board.assert_conserved()


def test_when_no_job_has_room_nothing_at_all_is_written(board: JobBoard) -> None:
    board.submit(New("open"))
    before = board.everything()

    assert board.submit(New("a", key="k"), max_open=1) == [None]

    assert board.everything() == before


def test_a_repeated_submission_is_answered_when_there_is_no_room(board: JobBoard) -> None:
    board.submit(New("a", key="k"))

    assert board.submit(New("b"), New("c", key="k"), max_open=1) == [None, (0, "a", "f")]


def test_ended_jobs_make_room(board: JobBoard) -> None:
    board.submit(New("a"), max_open=1)
    assert board.submit(New("b"), max_open=1) == [None]

    board.delete("a")

    assert board.submit(New("b"), max_open=1) == [(1, "b", "f")]


def test_the_same_key_again_is_answered_with_the_first_job(board: JobBoard) -> None:
    board.submit(New("first", key="k", fingerprint="same"))

    answer = board.submit(New("second", key="k", fingerprint="same"), envelope="second message")

    assert answer == [(0, "first", "same")]
    assert board.status("second") is None
    assert board.next_check("second") is None
    assert board.counts() == {"accepted": 1}
    assert board.queue() == [b"message"], "nothing new, so no message"


def test_the_same_key_for_other_rows_is_answered_with_the_fingerprint_of_the_first(board: JobBoard) -> None:
    board.submit(New("first", key="k", fingerprint="rows"))

    assert board.submit(New("second", key="k", fingerprint="other")) == [(0, "first", "rows")]
    assert board.status("second") is None


def test_the_same_key_twice_in_one_call_makes_one_job(board: JobBoard) -> None:
    answers = board.submit(New("a", key="k"), New("b", key="k"), New("c", key="other"), New("d"))

    assert answers == [(1, "a", "f"), (0, "a", "f"), (1, "c", "f"), (1, "d", "f")]
    assert board.counts() == {"accepted": 3}
    assert board.status("b") is None
    assert len(board.queue()) == 1


def test_jobs_without_a_key_are_never_replays(board: JobBoard) -> None:
    assert board.submit(New("a"), New("b")) == [(1, "a", "f"), (1, "b", "f")]
    assert board.redis.exists("") == 0


def test_a_key_is_good_for_as_long_as_an_ended_job_at_least_is_kept(board: JobBoard) -> None:
    board.submit(New("first", key="k"))
    board.delete("first")

    board.clock.pass_(RETENTION_SECONDS - 1)
    assert board.submit(New("second", key="k")) == [(0, "first", "f")]
    assert board.status("first") == "cancelled", "whoever gets this id can look it up"

    board.clock.pass_(2)
    assert board.submit(New("second", key="k")) == [(1, "second", "f")]


# --- start


@pytest.mark.parametrize(
    ("state", "redelivered", "attempt"),
    [
        ("queued", False, 1),
        ("queued", True, 1),
        ("running", False, None),
        ("running", True, 2),
        ("lease over", False, 2),
        ("lease over", True, 2),
        *((state, redelivered, None) for state in [*EVERY_OUTCOME, "unknown"] for redelivered in (False, True)),
    ],
)
def test_only_a_job_that_nobody_works_on_is_started(
    board: JobBoard, state: str, redelivered: bool, attempt: int | None
) -> None:
    bring_to(board, state)
    before = board.record("a")

    assert board.start("a", redelivered=redelivered) == [attempt]

    if attempt is None:
        assert board.record("a") == before
    else:
        assert board.record("a")["status"] == "running"


def test_a_traced_job_tells_its_trace_at_every_attempt_and_others_tell_nothing(board: JobBoard) -> None:
    board.submit(New("a", trace='{"traceparent":"…"}'), New("b"))

    for attempt in (1, 2):
        *_, told, started_at, trace = board.start_one("a")
        assert (told, trace.decode()) == (attempt, '{"traceparent":"…"}')
        assert started_at.decode() == board.record("a")["started_at"]
        board.clock.pass_(LEASE_SECONDS)
    assert board.start_one("b")[-1] is None
    assert "trace" not in board.record("b")


def test_a_started_job_belongs_to_its_worker_until_the_lease_is_over(board: JobBoard) -> None:
    board.submit(New("a", rows="[[5]]"))
    accepted_at = f"{board.clock.seconds:.6f}".encode()
    board.clock.pass_(3)

    now = board.clock.seconds
    assert board.start_one("a") == [b"iris", b"v1", b"[[5]]", accepted_at, 1, f"{now:.6f}".encode(), None]

    record = board.record("a")
    assert record["started_at"] == f"{now:.6f}"
    assert record["attempt"] == "1"
    assert record["lease_until"] == f"{now + LEASE_SECONDS:.6f}"
    assert board.next_check("a") == now + LEASE_SECONDS
    assert board.ttl("a") is None


def test_every_job_of_a_message_is_judged_by_itself(board: JobBoard) -> None:
    for id_, state in {"a": "queued", "b": "running", "c": "cancelled", "d": "unknown", "e": "queued"}.items():
        bring_to(board, state, id_)

    assert board.start("a", "b", "c", "d", "e") == [1, None, None, None, 1]


@pytest.mark.parametrize("state", ["queued", "lease over"])
def test_past_its_expiry_a_job_is_not_started_but_expired(board: JobBoard, state: str) -> None:
    bring_to(board, state)
    board.clock.pass_(EXPIRY_SECONDS)

    assert board.start("a") == [None]

    assert board.status("a") == "expired"
    assert board.record("a")["outcome"] == "{}"
    assert board.next_check("a") is None


def test_just_before_its_expiry_a_job_is_started(board: JobBoard) -> None:
    bring_to(board, "queued")
    board.clock.pass_(EXPIRY_SECONDS - 0.01)

    assert board.start("a") == [1]


@pytest.mark.parametrize("max_attempts", [1, 3])
def test_after_the_last_attempt_it_fails_as_worker_lost(board: JobBoard, max_attempts: int) -> None:
    board.submit(New("a"), max_attempts=max_attempts)
    for attempt in range(1, max_attempts + 1):
        assert board.start("a", redelivered=True) == [attempt]

    assert board.start("a", redelivered=True) == [None]

    assert board.status("a") == "failed"
    error = json.loads(board.record("a")["outcome"])["error"]
    assert (error["code"], error["rows"]) == ("worker_lost", [])
    assert board.record("a")["attempt"] == str(max_attempts)


# --- finish


@pytest.mark.parametrize("state", ["queued", "running", "lease over"])
@pytest.mark.parametrize("status", ["succeeded", "failed"])
def test_an_open_job_gets_the_outcome_that_comes_first(board: JobBoard, state: str, status: str) -> None:
    """Also a queued job: it was published again, and then the worker that seemed lost answered."""
    bring_to(board, state)

    assert board.finish("a", status=status, outcome='{"answer":1}') == [1]

    record = board.record("a")
    assert (record["status"], record["outcome"]) == (status, '{"answer":1}')
    assert record["compute_seconds"] == "0.5"
    assert record["ended_at"] == f"{board.clock.seconds:.6f}"
    assert board.counts() == {"accepted": 1, status: 1}


def test_a_failed_job_of_which_the_model_refused_a_row_is_counted_apart_once(board: JobBoard) -> None:
    bring_to(board, "running")

    board.finish("a", status="failed", is_rejected=True)
    board.finish("a", status="failed", is_rejected=True)

    assert board.counts() == {"accepted": 1, "failed": 1, "row_rejected": 1}


@pytest.mark.parametrize("state", [*EVERY_OUTCOME, "unknown"])
def test_a_late_outcome_changes_nothing(board: JobBoard, state: str) -> None:
    bring_to(board, state)
    before, counts, ttl = board.record("a"), board.counts(), board.ttl("a")

    assert board.finish("a", status="succeeded", outcome='{"late":1}') == [0]

    assert board.record("a") == before
    assert board.counts() == counts
    assert board.ttl("a") == ttl


def test_of_two_workers_the_first_one_counts(board: JobBoard) -> None:
    bring_to(board, "running")

    assert board.finish("a", status="failed", outcome='{"by":1}') == [1]
    assert board.finish("a", status="succeeded", outcome='{"by":2}') == [0]

    assert (board.status("a"), board.record("a")["outcome"]) == ("failed", '{"by":1}')
    assert board.counts() == {"accepted": 1, "failed": 1}


def test_outcomes_of_a_batch_are_written_one_by_one(board: JobBoard) -> None:
    for id_, state in {"a": "running", "b": "cancelled", "c": "running", "d": "unknown"}.items():
        bring_to(board, state, id_)

    assert board.finish("a", "b", "c", "d") == [1, 0, 1, 0]

    assert [board.status(id_) for id_ in "abcd"] == ["succeeded", "cancelled", "succeeded", None]


# --- cancel


@pytest.mark.parametrize("state", ["queued", "running", "lease over"])
def test_an_open_job_can_be_cancelled(board: JobBoard, state: str) -> None:
    bring_to(board, state)

    assert board.delete("a") == "cancelled"

    assert board.status("a") == "cancelled"
    assert board.record("a")["outcome"] == "{}"
    assert board.counts() == {"accepted": 1, "cancelled": 1}
    assert board.start("a", redelivered=True) == [None]


@pytest.mark.parametrize("state", EVERY_OUTCOME)
@pytest.mark.parametrize("key", ["", "k"])
def test_an_ended_job_is_forgotten_with_its_key_and_its_counts_stay(board: JobBoard, state: str, key: str) -> None:
    board.submit(New("b", key="other"))
    before = board.everything()
    board.submit(New("a", key=key), envelope=board.envelope())
    bring_to_outcome(board, state)
    counts = board.counts()

    assert board.delete("a") == "forgotten"

    assert board.record("a") == {}
    left = {name for name in board.everything() if name not in before}
    assert not [name for name in left if b":job:" in name or b"idempotency" in name]
    assert board.counts() == counts
    assert board.delete("a") is None
    assert board.list_jobs()[1] == ["b"]
    assert board.submit(New("c", key=key or "k")) == [(1, "c", "f")], "its key is free again"


def test_a_forgotten_job_takes_along_no_key_that_names_a_later_one(board: JobBoard) -> None:
    board.submit(New("a", key="k"))
    board.clock.pass_(RETENTION_SECONDS + 1)
    board.submit(New("b", key="k"))
    board.finish("a")

    assert board.delete("a") == "forgotten"

    assert board.submit(New("c", key="k")) == [(0, "b", "f")]


def test_a_job_that_was_cancelled_and_forgotten_never_runs(board: JobBoard) -> None:
    bring_to(board, "running")
    board.submit(New("b"))

    assert [board.delete("a"), board.delete("a")] == ["cancelled", "forgotten"]

    assert board.finish("a") == [0]
    assert board.start("a", redelivered=True) == [None]
    assert board.reconcile("a") == "gone"
    assert board.record("a") == {}


@pytest.mark.parametrize("state", ["queued", "succeeded"])
def test_no_owner_deletes_anothers_job(board: JobBoard, state: str) -> None:
    board.submit(New("a", owner="alice", key="k"))
    if state == "succeeded":
        board.finish("a")
    before = board.everything()

    for owner in ("", "bob"):
        assert board.delete("a", owner) is None

    assert board.everything() == before
    assert board.delete("a", "alice") in ("cancelled", "forgotten")


def test_cancelling_what_never_was_leaves_no_trace(board: JobBoard) -> None:
    assert board.delete("a") is None
    assert board.everything() == {}


@pytest.mark.parametrize("key", ["", "k"])
def test_a_submission_that_is_sent_twice_is_accepted_once(board: JobBoard, key: str) -> None:
    """The Redis client does that itself when the connection breaks before the answer."""
    for _ in range(2):
        assert board.submit(New("a", key)) == [(1, "a", "f")]
        board.start("a")

    assert board.counts() == {"accepted": 1}
    assert len(board.queue()) == 1
    assert board.status("a") == "running", "what it has come to is left as it is"


# --- claim


def test_messages_are_claimed_oldest_first_and_their_jobs_started(board: JobBoard) -> None:
    first, second, third = (board.submit_message(*ids) for ids in (["a"], ["b", "c"], ["d"]))

    assert board.claim((first, ["a"]), (second, ["b", "c"])) == ["a", "b", "c"]

    assert board.queue() == [third]
    assert [board.status(id_) for id_ in "abcd"] == ["running"] * 3 + ["queued"]
    assert board.next_check("a") == board.clock.seconds + 35


def test_what_another_took_meanwhile_is_left_out(board: JobBoard) -> None:
    first, second = board.submit_message("a"), board.submit_message("b")
    board.redis.rpop(QUEUE)

    assert board.claim((first, ["a"]), (second, ["b"])) == ["b"]
    assert board.claim((first, ["a"]), (second, ["b"])) == []
    assert (board.status("a"), board.queue()) == ("queued", [])


def test_a_job_that_was_attempted_before_is_not_claimed_and_nothing_behind_it(board: JobBoard) -> None:
    first, second, third = (board.submit_message(id_) for id_ in "abc")
    board.start("b")
    board.release("b")

    assert board.claim((first, ["a"]), (second, ["b"]), (third, ["c"])) == ["a"]
    assert board.queue() == [second, third]


def test_more_rows_than_the_claimer_wants_stay(board: JobBoard) -> None:
    first, second = board.submit_message("a"), board.submit_message("b")

    assert board.claim((first, ["a"]), (second, ["b"]), rows_bytes=len("[[1.0]]")) == ["a"]
    assert board.queue() == [second]


def test_a_claimed_job_that_ended_meanwhile_is_not_started(board: JobBoard) -> None:
    first = board.submit_message("a", "b")
    board.delete("a")

    assert board.claim((first, ["a", "b"])) == ["b"]
    assert board.status("a") == "cancelled"
    assert board.queue() == []


def test_a_claimed_job_whose_worker_died_runs_again(board: JobBoard) -> None:
    board.claim((board.submit_message("a"), ["a"]))
    board.clock.pass_(35.1)

    assert board.reconcile("a") == "republished"
    assert board.start("a") == [2]


# --- release


def test_what_was_claimed_is_released_with_the_job_that_the_task_came_with(board: JobBoard) -> None:
    board.submit(New("a"))
    board.redis.rpop(QUEUE)
    board.start("a")
    board.claim((board.submit_message("b", "c"), ["b", "c"]), task="a")
    board.finish("c")

    board.release("a")

    assert [board.next_check(id_) for id_ in "abc"] == [board.clock.seconds, board.clock.seconds, None]
    assert board.start("a", "b", "c") == [2, 2, None]
    board.release("a")
    assert board.next_check("b") == board.clock.seconds + 35, "it runs elsewhere by now"


def test_a_second_attempt_knows_nothing_of_what_the_first_has_claimed(board: JobBoard) -> None:
    board.submit(New("a"))
    board.redis.rpop(QUEUE)
    board.start("a")
    board.claim((board.submit_message("b"), ["b"]), task="a")
    board.clock.pass_(36)
    assert board.start("a", "b") == [2, 2]

    board.release("a")

    assert board.next_check("b") == board.clock.seconds + 35


def test_what_was_claimed_is_forgotten_with_the_outcome(board: JobBoard) -> None:
    board.submit(New("a"))
    board.redis.rpop(QUEUE)
    board.start("a")
    board.claim((board.submit_message("b"), ["b"]), task="a")

    board.finish("a")

    assert "claimed" not in board.record("a")


def test_a_released_job_is_looked_at_next_and_may_start_at_once(board: JobBoard) -> None:
    bring_to(board, "running")

    board.release("a")

    assert board.next_check("a") == board.clock.seconds
    assert board.status("a") == "running"
    assert board.start("a") == [2]


@pytest.mark.parametrize("state", ["queued", *EVERY_OUTCOME, "unknown"])
def test_what_does_not_run_is_not_released(board: JobBoard, state: str) -> None:
    bring_to(board, state)
    before, check = board.record("a"), board.next_check("a")

    board.release("a")

    assert (board.record("a"), board.next_check("a")) == (before, check)


# --- reconcile


@pytest.mark.parametrize("state", [*EVERY_OUTCOME, "unknown"])
def test_an_id_without_an_open_job_is_put_away(board: JobBoard, state: str) -> None:
    bring_to(board, state)
    counts = board.counts()
    # Such a leftover is what a restored snapshot could hold; no transition makes it.
    board.redis.zadd(keys.JOBS_OPEN, {"a": 0})

    assert board.reconcile("a") == "gone"

    assert board.next_check("a") is None
    assert board.counts() == counts


def test_a_job_under_its_lease_is_left_alone_until_that_is_over(board: JobBoard) -> None:
    bring_to(board, "running")
    board.redis.delete(QUEUE)
    lease_until = board.clock.seconds + LEASE_SECONDS
    board.redis.zadd(keys.JOBS_OPEN, {"a": 0})
    board.clock.pass_(LEASE_SECONDS - 0.01)

    assert board.reconcile("a") == "waiting"

    assert board.next_check("a") == lease_until
    assert board.queue() == []


@pytest.mark.parametrize("state", ["queued", "lease over"])
def test_an_overdue_job_past_its_expiry_expires(board: JobBoard, state: str) -> None:
    bring_to(board, state)
    board.clock.pass_(EXPIRY_SECONDS)

    assert board.reconcile("a") == "expired"
    assert board.status("a") == "expired"


def test_a_job_that_runs_past_its_expiry_may_finish(board: JobBoard) -> None:
    board.submit(New("a"), expiry_seconds=1)
    board.start("a")
    board.clock.pass_(2)

    assert board.reconcile("a") == "waiting"
    assert board.finish("a") == [1]


def test_a_job_whose_worker_is_gone_runs_again_alone(board: JobBoard) -> None:
    board.submit(New("a"), New("b"))
    board.start("a", "b")
    board.redis.delete(QUEUE)
    board.clock.pass_(LEASE_SECONDS)
    now = board.clock.seconds

    assert board.reconcile("a") == "republished"

    record = board.record("a")
    assert (record["status"], record["attempt"], record["published_at"]) == ("queued", "1", f"{now:.6f}")
    assert board.next_check("a") == now + CHECK_SECONDS
    assert board.queue() == [board.envelope().encode()]
    assert board.status("b") == "running"
    assert board.start("a") == [2]


def test_a_job_whose_workers_are_all_gone_ends(board: JobBoard) -> None:
    board.submit(New("a"), max_attempts=2)
    for action in ("republished", "worker_lost"):
        board.start("a")
        board.clock.pass_(LEASE_SECONDS)
        assert board.reconcile("a") == action

    assert board.status("a") == "failed"
    assert json.loads(board.record("a")["outcome"])["error"]["code"] == "worker_lost"


def test_while_older_messages_wait_in_front_a_queued_job_is_not_lost(board: JobBoard) -> None:
    board.submit(New("older"), envelope=board.envelope())
    board.clock.pass_(60)
    board.submit(New("a"), envelope=board.envelope())
    board.clock.pass_(CHECK_SECONDS)

    assert board.reconcile("a") == "waiting"

    assert board.next_check("a") == board.clock.seconds + CHECK_SECONDS
    assert len(board.queue()) == 2
    assert board.record("a")["published_at"] != f"{board.clock.seconds:.6f}"


@pytest.mark.parametrize(
    ("younger_by_seconds", "action"),
    [(-60, "waiting"), (0, "waiting"), (GRACE_SECONDS, "waiting"), (GRACE_SECONDS + 0.01, "republished")],
)
def test_if_the_oldest_message_is_younger_than_the_job_its_own_is_lost(
    board: JobBoard, younger_by_seconds: float, action: str
) -> None:
    board.submit(New("a"))
    board.redis.delete(QUEUE)
    message = json.dumps({"headers": {"published_at": board.clock.seconds + younger_by_seconds}})
    board.redis.lpush(QUEUE, message)
    board.redis.lpush(QUEUE, json.dumps({"headers": {"published_at": board.clock.seconds + 1000}}))
    board.clock.pass_(CHECK_SECONDS)

    assert board.reconcile("a") == action

    assert len(board.queue()) == (3 if action == "republished" else 2)
    assert board.queue()[0] == message.encode(), "it goes to the end of the queue"


@pytest.mark.parametrize(
    "oldest",
    [
        None,
        "",
        "text",
        "null",
        "[]",
        "1",
        '"headers"',
        "{}",
        '{"headers":null}',
        '{"headers":[]}',
        '{"headers":{}}',
        '{"headers":{"published_at":null}}',
        '{"headers":{"published_at":"soon"}}',
        '{"headers":{"published_at":{}}}',
        "[" * 2000,
    ],
)
def test_what_says_nothing_of_its_age_does_not_hide_a_loss(board: JobBoard, oldest: str | None) -> None:
    board.submit(New("a"))
    board.redis.delete(QUEUE)
    if oldest is not None:
        board.redis.lpush(QUEUE, oldest)
    board.clock.pass_(CHECK_SECONDS)

    assert board.reconcile("a") == "republished"


def test_a_republished_job_waits_its_turn_again(board: JobBoard) -> None:
    board.submit(New("a"))
    board.redis.delete(QUEUE)
    board.clock.pass_(CHECK_SECONDS)
    assert board.reconcile("a") == "republished"
    board.clock.pass_(CHECK_SECONDS)

    assert board.reconcile("a") == "waiting"
    assert len(board.queue()) == 1


# --- the end, whichever way


def to_succeed(board: JobBoard) -> None:
    board.start("a")
    board.finish("a", status="succeeded")


def to_fail(board: JobBoard) -> None:
    board.start("a")
    board.finish("a", status="failed")


def to_cancel(board: JobBoard) -> None:
    board.delete("a")


def to_expire_at_start(board: JobBoard) -> None:
    board.clock.pass_(EXPIRY_SECONDS)
    board.start("a")


def to_expire_overdue(board: JobBoard) -> None:
    board.clock.pass_(EXPIRY_SECONDS)
    board.reconcile("a")


def to_lose_workers_at_start(board: JobBoard) -> None:
    for _ in range(4):
        board.start("a", redelivered=True)


def to_lose_workers_overdue(board: JobBoard) -> None:
    for _ in range(3):
        board.start("a", redelivered=True)
    board.release("a")
    board.reconcile("a")


BIG = json.dumps({"predictions": [0] * 1000})

Ending = Callable[[JobBoard], None]
ENDINGS: dict[Ending, str] = {
    to_succeed: "succeeded",
    to_fail: "failed",
    to_cancel: "cancelled",
    to_expire_at_start: "expired",
    to_expire_overdue: "expired",
    to_lose_workers_at_start: "failed",
    to_lose_workers_overdue: "failed",
}
each_ending = pytest.mark.parametrize(("end", "outcome"), ENDINGS.items(), ids=[end.__name__ for end in ENDINGS])


@each_ending
def test_an_ended_job_drops_its_rows_and_goes_when_its_time_is_over(board: JobBoard, end: Ending, outcome: str) -> None:
    board.submit(New("a"))
    assert "rows" in board.record("a")
    assert board.ttl("a") is None

    end(board)

    assert board.status("a") == outcome
    assert "rows" not in board.record("a")
    assert board.ttl("a") == RETENTION_SECONDS
    assert board.next_check("a") is None
    assert board.counts() == {"accepted": 1, outcome: 1}
    board.clock.pass_(RETENTION_SECONDS + 0.01)
    assert board.record("a") == {}
    assert board.counts() == {"accepted": 1, outcome: 1}


@each_ending
def test_those_who_wait_are_told_at_the_end_and_not_before(board: JobBoard, end: Ending, outcome: str) -> None:
    board.submit(New("a"))
    listener = board.redis.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(keys.JOBS_ENDED)
    assert listener.get_message() is None

    end(board)
    end(board)

    told = listener.get_message()
    assert told is not None
    assert told["data"] == b"a"
    assert listener.get_message() is None
    listener.close()


def test_a_batch_that_ends_is_told_in_one_message(board: JobBoard) -> None:
    for id_, state in {"a": "running", "b": "cancelled", "c": "running"}.items():
        bring_to(board, state, id_)
    listener = board.redis.pubsub(ignore_subscribe_messages=True)
    listener.subscribe(keys.JOBS_ENDED)
    assert listener.get_message() is None

    board.finish("a", "b", "c")

    told = listener.get_message()
    assert told is not None
    assert told["data"] == b"a c"
    assert listener.get_message() is None
    listener.close()


# --- any sequence at all


class Chaos:
    """Submissions, workers, callers and reconcilers in any order, with time between them."""

    def __init__(self, board: JobBoard, seed: int) -> None:
        self.board = board
        self.chance = random.Random(seed)
        self.numbers = itertools.count()
        self.ids: list[str] = []
        self.outcomes: dict[str, tuple[str, str]] = {}
        self.forgotten: set[str] = set()
        self.moves: list[Callable[[], object]] = [
            self.submit,
            self.submit,
            lambda: board.start(*self.some(4), redelivered=self.chance.random() < 0.2),
            lambda: board.start(*self.some(4), redelivered=self.chance.random() < 0.2),
            lambda: board.finish(
                *self.some(3),
                status=self.chance.choice(["succeeded", "failed"]),
                outcome=self.chance.choice(["{}", BIG]),
            ),
            lambda: self.delete(*self.some(1)),
            lambda: board.release(*self.some(2)),
            lambda: board.reconcile(*self.some(1)),
            lambda: board.redis.rpop(QUEUE),
            lambda: board.clock.pass_(self.chance.choice([0.1, 5, LEASE_SECONDS])),
        ]

    def some(self, most: int) -> list[str]:
        """Return some ids, newer ones more often, and sometimes one that no job has."""
        known = self.ids[-12:] if self.chance.random() < 0.8 else self.ids
        picked = self.chance.sample(known, min(len(known), self.chance.randint(1, most)))
        return picked if picked and self.chance.random() < 0.95 else ["never-was"]

    def submit(self) -> None:
        jobs = [
            New(
                f"job{next(self.numbers)}",
                key=self.chance.choice(["", "", f"key{self.chance.randint(0, 30)}"]),
                fingerprint=self.chance.choice(["f", "g"]),
            )
            for _ in range(self.chance.randint(1, 3))
        ]
        answers = self.board.submit(
            *jobs,
            envelope=self.board.envelope(),
            max_open=40,
            expiry_seconds=self.chance.choice([20, 100, EXPIRY_SECONDS]),
            retention_seconds=100_000,
            max_attempts=self.chance.randint(1, 3),
        )
        self.ids += [answer[1] for answer in answers if answer is not None and answer[0]]

    def delete(self, id_: str) -> None:
        if self.board.delete(id_) == "forgotten":
            self.forgotten.add(id_)

    def check(self) -> None:
        self.board.assert_conserved()
        self.board.result_bytes()
        open_ = {id_.decode() for id_ in self.board.redis.zrange(keys.JOBS_OPEN, 0, -1)}
        for id_ in self.ids:
            record = self.board.record(id_)
            if id_ in self.forgotten:
                assert record == {} and id_ not in open_, "it came back"
                continue
            if id_ in self.outcomes:
                assert (record["status"], record["outcome"]) == self.outcomes[id_], "an outcome changed"
            if record["status"] not in OPEN_STATUSES:
                self.outcomes[id_] = record["status"], record["outcome"]
            assert (id_ in open_) == (record["status"] in OPEN_STATUSES), record
            assert int(record["attempt"]) <= int(record["max_attempts"])

    def drain(self) -> None:
        """Let only the reconciler run: no new jobs, no workers, and entries that come to nothing."""
        for _ in range(100):
            now = self.board.clock.seconds
            for id_ in self.board.redis.zrangebyscore(keys.JOBS_OPEN, "-inf", now):
                self.board.reconcile(id_.decode())
            self.board.clock.pass_(EXPIRY_SECONDS / 20)
            if not self.board.redis.zcard(keys.JOBS_OPEN):
                return


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_every_accepted_job_gets_one_outcome_and_keeps_it(board: JobBoard, seed: int) -> None:
    chaos = Chaos(board, seed)
    for _ in range(300):
        chaos.chance.choice(chaos.moves)()
        chaos.check()
    chaos.drain()
    chaos.check()

    assert set(chaos.outcomes) == set(chaos.ids)
    assert {outcome for outcome, _ in chaos.outcomes.values()} == set(EVERY_OUTCOME), "the dice saw everything"
    counts = board.counts()
    assert counts.pop("accepted") == len(chaos.ids) == sum(counts.values())


# --- kept results


def finish_big(board: JobBoard, id_: str, size: int, status: str = "succeeded") -> None:
    board.submit(New(id_))
    outcome = json.dumps({"error": {"code": "x", "message": "m", "rows": [1, 22]}, "filled": "y" * size})[:-1] + "}"
    board.finish(id_, status=status, outcome=outcome.replace(" ", ""))
    board.clock.pass_(1)


def has_result(board: JobBoard, id_: str) -> bool:
    record = board.record(id_)
    assert record["status"] == "succeeded"
    assert ("outcome" in record) == ("result_dropped" not in record)
    return "outcome" in record


def test_when_results_are_too_many_the_oldest_go_and_their_jobs_stay(board: JobBoard) -> None:
    board.tidy(7_000)
    for number in range(5):
        finish_big(board, f"job{number}", 3_000)

    assert [has_result(board, f"job{number}") for number in range(5)] == [False, False, False, True, True]
    assert 6_000 < board.result_bytes() <= 7_000
    assert int(board.redis.hget(keys.JOB_RESULT_COUNTS, "dropped")) == 3
    assert board.counts()["succeeded"] == 5
    assert board.ttl("job0") == RETENTION_SECONDS - 5


def test_small_outcomes_stay_with_their_records(board: JobBoard) -> None:
    board.tidy(1)
    for number in range(5):
        finish_big(board, f"job{number}", 500)

    assert all(has_result(board, f"job{number}") for number in range(5))
    assert board.result_bytes() == 0


def test_a_result_that_is_larger_than_the_limit_stays_until_a_newer_one_comes(board: JobBoard) -> None:
    board.tidy(2_000)
    finish_big(board, "first", 5_000)
    assert (board.tidy(2_000), has_result(board, "first")) == (0, True)

    finish_big(board, "second", 5_000)

    assert (has_result(board, "first"), has_result(board, "second")) == (False, True)


def test_a_lower_limit_holds_at_once_and_in_parts(board: JobBoard) -> None:
    for number in range(250):
        finish_big(board, f"job{number}", 2_000)

    assert [board.tidy(5_000) for _ in range(4)] == [1, 1, 0, 0], "a hundred results a time"

    assert board.result_bytes() <= 5_000
    assert [has_result(board, f"job{number}") for number in (0, 247, 248, 249)] == [False, False, True, True]


def test_a_failed_job_keeps_its_error_without_the_rows(board: JobBoard) -> None:
    finish_big(board, "a", 2_000, status="failed")
    finish_big(board, "b", 2_000)

    board.tidy(2_500)

    record = board.record("a")
    assert json.loads(record["outcome"])["error"] == {"code": "x", "message": "m", "rows": []}
    assert (record["status"], record["result_dropped"]) == ("failed", "1")


def test_results_that_age_out_or_are_forgotten_make_room(board: JobBoard) -> None:
    finish_big(board, "old", 2_000)
    board.clock.pass_(RETENTION_SECONDS / 2)
    finish_big(board, "young", 2_000)
    finish_big(board, "forgotten", 2_000)

    board.delete("forgotten")
    assert 4_000 < board.result_bytes() < 5_000
    board.clock.pass_(RETENTION_SECONDS / 2)
    assert board.tidy(10_000, most=1) == 1, "as many aged out as a call looks at"
    assert board.tidy(10_000, most=1) == 0

    assert 2_000 < board.result_bytes() < 2_500
    assert has_result(board, "young")
    board.clock.pass_(RETENTION_SECONDS)
    board.tidy(10_000)
    assert board.result_bytes() == 0


def test_a_result_that_aged_out_unseen_leaves_no_record(board: JobBoard) -> None:
    finish_big(board, "a", 2_000)
    board.clock.pass_(RETENTION_SECONDS)
    finish_big(board, "b", 2_000)

    board.tidy(1)

    assert board.record("a") == {}
    assert board.result_bytes() > 0, "the newest stays"


def test_it_is_known_when_records_go(board: JobBoard) -> None:
    def kept() -> dict[str, int]:
        return {name.decode(): int(number) for name, number in board.redis.hgetall(keys.JOBS_KEPT).items()}

    for id_ in "abc":
        finish_big(board, id_, 10)
    for _ in range(2):
        board.tidy(1_000)
    goes_in = str(int((board.clock.seconds + RETENTION_SECONDS) // 600))
    assert kept() == {"counted": 3, goes_in: 3}

    board.clock.pass_(RETENTION_SECONDS + 700)
    board.tidy(1_000)
    assert kept() == {"counted": 3}


# --- read


def test_a_job_is_read_with_its_outcome_unless_that_is_too_large(board: JobBoard) -> None:
    bring_to(board, "succeeded")
    outcome = json.dumps({"first": "succeeded"})

    assert board.read("a", "status", "trace") == [0, "succeeded", None, outcome]
    assert board.read("a", "status", outcome_max_bytes=len(outcome)) == [0, "succeeded", outcome]
    assert board.read("a", "status", outcome_max_bytes=len(outcome) - 1) == [len(outcome), "succeeded"]


def test_a_job_without_outcome_and_an_unknown_one_are_read(board: JobBoard) -> None:
    board.submit(New("a"))

    assert board.read("a", "status") == [0, "queued", None]
    assert board.read("unknown", "status") == [0, None, None]


def test_nothing_of_another_owners_job_is_read(board: JobBoard) -> None:
    board.submit(New("a", owner="anna"), New("b"))
    before = board.everything()

    assert board.read("a", "status", owner="anna") == [0, "queued", None]
    assert board.read("a", "status") == board.read("a", "status", owner="ben") == []
    assert board.read("b", "status", owner="ben") == []
    assert board.everything() == before


# --- list


def test_jobs_are_listed_in_pages_the_last_one_first(board: JobBoard) -> None:
    ids = [f"job{number}" for number in range(7)]
    for id_ in ids[:4]:
        board.submit(New(id_))
    board.clock.pass_(2 * 3600)
    board.submit(*map(New, ids[4:]))

    place, page = board.list_jobs(limit=2)
    board.submit(New("new"))
    pages = [page]
    while place:
        place, page = board.list_jobs(limit=2, place=place)
        pages.append(page)

    assert pages == [["job6", "job5"], ["job4", "job3"], ["job2", "job1"], ["job0"]]


def test_a_full_last_page_has_no_next(board: JobBoard) -> None:
    board.submit(New("a"), New("b"))
    board.clock.pass_(3600)

    assert board.list_jobs(limit=2) == ([], ["b", "a"])
    assert board.list_jobs(limit=2, status="queued") == ([], ["b", "a"])


def test_jobs_are_listed_by_status_model_and_time(board: JobBoard) -> None:
    for id_, state in {"a": "failed", "b": "succeeded", "c": "queued", "d": "cancelled", "e": "failed"}.items():
        bring_to(board, state, id_)
        board.clock.pass_(10)
    now = board.clock.seconds

    assert board.list_jobs()[1] == ["e", "d", "c", "b", "a"]
    assert board.list_jobs("failed", status="failed")[1] == ["e", "a"]
    assert board.list_jobs("cancelled")[1] == ["d"]
    assert board.list_jobs(status="succeeded")[1] == ["b"]
    assert board.list_jobs(status="queued")[1] == ["c"]
    assert board.list_jobs(since=now - 20)[1] == ["e", "d"]
    assert board.list_jobs("failed", since=now - 20)[1] == ["e"]
    assert board.list_jobs(model="iris")[1] == ["e", "d", "c", "b", "a"]
    assert board.list_jobs(model="other")[1] == []


def test_owners_see_their_own_jobs(board: JobBoard) -> None:
    board.submit(New("a", owner="alice"), New("b", owner="bob"), New("c"), New("d", owner="alice"))
    board.start("a", "b")
    board.finish("a", "b", status="failed")

    assert [board.list_jobs(owner=owner)[1] for owner in ("alice", "bob", "", "eve")] == [["d", "a"], ["b"], ["c"], []]
    assert [board.list_jobs("failed", owner=owner)[1] for owner in ("alice", "bob", "")] == [["a"], ["b"], []]


def test_one_call_reads_so_many_jobs_and_no_more(board: JobBoard) -> None:
    board.submit(*(New(f"job{number}") for number in range(10)))

    place, page = board.list_jobs(status="failed", most=4)

    assert (page, place) == ([], [int(board.clock.seconds // 3600), 6])
    assert board.list_jobs(place=place, limit=1)[1] == ["job5"]


@pytest.mark.parametrize("place", [[999_999_999, 999_999_999], [0, 0], [0, 5], ["", 10**8]])
def test_any_place_is_answered(board: JobBoard, place: list[Any]) -> None:
    board.submit(New("a"))

    place, page = board.list_jobs(place=place)

    assert page in (["a"], [])
    assert len(place) in (0, 2)


def test_an_index_goes_with_the_records(board: JobBoard) -> None:
    bring_to(board, "failed", "a")
    hour = int(board.clock.seconds // 3600)
    names = [keys.job_index(status, "", hour) for status in ("all", "failed")]
    assert [board.redis.lrange(name, 0, -1) for name in names] == [[b"a"]] * 2

    board.clock.pass_(RETENTION_SECONDS + 0.01)
    assert board.list_jobs()[1] == []

    board.clock.pass_(3600 + EXPIRY_SECONDS)
    assert [board.redis.exists(name) for name in names] == [0, 0]
