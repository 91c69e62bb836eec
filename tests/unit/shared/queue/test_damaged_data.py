"""Damaged data harms itself alone, and is put aside: records, idempotency keys, counts, lists."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from shared.queue import keys
from tests.support.jobs import QUEUE, JobBoard, New

LEASE_SECONDS = 35


def no_hash(board: JobBoard, id_: str) -> None:
    board.redis.set(keys.job(id_), "not a hash")


def without_status(board: JobBoard, id_: str) -> None:
    board.redis.hdel(keys.job(id_), "status")


def field(name: str, value: str | bytes | None) -> Callable[[JobBoard, str], None]:
    def damage(board: JobBoard, id_: str) -> None:
        if value is None:
            board.redis.hdel(keys.job(id_), name)
        else:
            board.redis.hset(keys.job(id_), name, value)

    return damage


NUMBERS = ("attempt", "max_attempts", "retention_seconds", "accepted_at", "published_at", "expires_at")
DAMAGES = {
    "no hash": no_hash,
    "without status": without_status,
    "status": field("status", "sleeping"),
    "without rows": field("rows", None),
    "model": field("model", "no name"),
    "without version": field("version", None),
    "lease": field("lease_until", "soon"),
    "status=succeeded": field("status", "succeeded"),
    "status=expired": field("status", "expired"),
    "ended_at": field("ended_at", "1795000000.000000"),
    "retention_seconds=0": field("retention_seconds", "0"),
    "retention_seconds=10**14": field("retention_seconds", "1" + "0" * 14),
    **{
        f"{name}={value}": field(name, value)
        for name, value in zip(NUMBERS, ["x", "-1", "nan", None] * 2, strict=False)
    },
}
each_damage = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)


def submit_three(board: JobBoard) -> None:
    board.submit(New("a"), New("bad", owner="alice"), New("c"), envelope=board.envelope())


@each_damage
@pytest.mark.parametrize("running", [False, True])
def test_a_damaged_record_harms_no_other_job_and_its_job_fails(
    board: JobBoard, damage: Callable[[JobBoard, str], None], running: bool
) -> None:
    submit_three(board)
    if running:
        board.start("a", "bad", "c")
    damage(board, "bad")

    if not running:
        assert board.start("a", "bad", "c")[::2] == [1, 1]
    assert board.finish("a", "bad", "c")[::2] == [1, 1]
    board.clock.pass_(2 * LEASE_SECONDS)
    for id_ in board.redis.zrangebyscore(keys.JOBS_OPEN, "-inf", board.clock.seconds):
        board.reconcile(id_.decode())

    assert [board.status("a"), board.status("c")] == ["succeeded"] * 2
    if board.status("bad") != "succeeded":
        # Otherwise the damaged field was needed no more.
        assert board.status("bad") == "failed"
        assert json.loads(board.record("bad")["outcome"])["error"]["code"] == "job_damaged"
        [(what, content)] = board.put_aside()
        assert what.startswith(keys.job("bad"))
        assert content
    assert board.redis.zcard(keys.JOBS_OPEN) == 0
    assert 0 < (board.ttl("bad") or 0) <= 86_400
    board.assert_conserved()


@each_damage
def test_a_damaged_record_is_examined_within_a_second(board: JobBoard, damage: Callable[[JobBoard, str], None]) -> None:
    submit_three(board)
    damage(board, "bad")

    started = board.start("a", "bad", "c")

    if started[1] is None:
        assert board.next_check("bad") == board.clock.seconds
        assert board.reconcile("bad") == "damaged"


@each_damage
def test_a_damaged_record_is_not_claimed_with_the_others(
    board: JobBoard, damage: Callable[[JobBoard, str], None]
) -> None:
    first, second = board.submit_message("a", "bad"), board.submit_message("c")
    damage(board, "bad")

    claimed = board.claim((first, ["a", "bad"]), (second, ["c"]))

    assert [id_ for id_ in claimed if id_ != "bad"] == ["a", "c"]
    assert board.queue() == []


@each_damage
def test_a_damaged_record_is_released_with_the_others(board: JobBoard, damage: Callable[[JobBoard, str], None]) -> None:
    submit_three(board)
    board.start("a", "bad", "c")
    damage(board, "bad")

    board.release("a", "bad", "c")

    assert [board.next_check(id_) for id_ in ("a", "c")] == [board.clock.seconds] * 2


@each_damage
def test_a_damaged_record_is_left_out_of_lists_or_shown(
    board: JobBoard, damage: Callable[[JobBoard, str], None]
) -> None:
    board.submit(New("a"), New("bad"), New("c"))
    damage(board, "bad")

    assert [id_ for id_ in board.list_jobs()[1] if id_ != "bad"] == ["c", "a"]


@each_damage
def test_a_job_with_a_damaged_record_can_be_deleted_after_its_end(
    board: JobBoard, damage: Callable[[JobBoard, str], None]
) -> None:
    board.submit(New("bad"))
    damage(board, "bad")

    if board.delete("bad") is None:
        assert board.reconcile("bad") == "damaged"

    assert board.delete("bad") == "forgotten"
    assert board.record("bad") == {}
    board.assert_conserved()


@pytest.mark.parametrize("value", ["", "one", "no job", "a b c", "\xff \xff", " f", "a  f"])
def test_a_damaged_idempotency_key_is_put_aside_and_the_jobs_are_accepted(board: JobBoard, value: str) -> None:
    board.redis.set(keys.idempotency("k"), value.encode("latin-1"))

    answers = board.submit(New("a"), New("b", key="k"), New("c", key="other"))

    assert answers == [(1, "a", "f"), (1, "b", "f"), (1, "c", "f")]
    assert board.put_aside() == [(f"{keys.idempotency('k')}: it names no job", value.encode("latin-1"))]
    assert board.submit(New("d", key="k")) == [(0, "b", "f")]
    board.assert_conserved()


def test_an_idempotency_key_of_another_type_is_replaced(board: JobBoard) -> None:
    board.redis.lpush(keys.idempotency("k"), "x")

    assert board.submit(New("a", key="k"), New("b")) == [(1, "a", "f"), (1, "b", "f")]
    board.finish("a")
    board.redis.delete(keys.idempotency("k"))
    board.redis.lpush(keys.idempotency("k"), "x")
    assert board.delete("a") == "forgotten"


@pytest.mark.parametrize("value", ["many", "", "-5", "1e3", "99999999999999999999", "9223372036854775807"])
@pytest.mark.parametrize("name", ["accepted", "succeeded", "failed", "cancelled", "expired", "row_rejected"])
def test_a_damaged_count_stops_nothing_and_is_worked_out_from_the_others(
    board: JobBoard, name: str, value: str
) -> None:
    board.submit(*map(New, "abcde"))
    board.finish("a")
    board.finish("b", status="failed")
    board.delete("c")
    board.redis.hset(keys.JOB_COUNTS, name, value)

    assert board.finish("d", status="failed", is_rejected=True) == [1]
    board.submit(New("f"))
    board.tidy(1000)

    counts = board.counts()
    assert counts.pop("row_rejected", 0) in (0, 1)
    assert {field: count for field, count in counts.items() if count} == {
        "accepted": 6,
        "succeeded": 1,
        "failed": 2,
        "cancelled": 1,
    }
    board.assert_conserved()
    [(what, content)] = board.put_aside()
    assert what == f"{keys.JOB_COUNTS} {name}: it is no count"
    assert content == value.encode() or value == "-5", "a negative count was counted on"


@pytest.mark.parametrize("place", ["start", "finish"])
def test_a_damaged_set_of_open_jobs_loses_none_and_is_replaced(board: JobBoard, place: str) -> None:
    board.submit(New("a"), New("b"))
    if place == "finish":
        board.start("a", "b")
    board.redis.set(keys.JOBS_OPEN, "no set")

    if place == "start":
        assert board.start("a", "b") == [1, 1]
    assert board.finish("a") == [1]
    board.tidy(1000)
    board.tidy(1000)
    assert board.finish("b") == [1]

    assert [what for what, _ in board.put_aside()] == [f"{keys.JOBS_OPEN}: it is no zset"]
    assert board.submit(New("c")) == [(1, "c", "f")]


def test_a_queue_of_another_type_is_replaced(board: JobBoard) -> None:
    board.submit(New("a"), envelope=board.envelope())
    board.redis.set(QUEUE, "no list")

    board.tidy(1000)

    board.clock.pass_(60)
    assert board.reconcile("a") == "republished"
    assert len(board.queue()) == 1


@pytest.mark.parametrize("key", [keys.JOB_COUNTS, keys.JOBS_KEPT, keys.JOB_RESULTS, keys.JOB_RESULT_COUNTS])
def test_a_key_of_another_type_stops_no_job_and_is_replaced(board: JobBoard, key: str) -> None:
    board.redis.set(key, "no such thing")

    board.submit(New("a"), New("b"))
    board.start("a")
    assert board.finish("a", outcome=json.dumps([0] * 1000)) == [1]
    board.tidy(10_000)
    board.tidy(10_000)

    assert board.status("a") == "succeeded"
    assert f"{key}: it is no " in board.put_aside()[-1][0] or f"{key}: it is no " in board.put_aside()[0][0]
    assert board.finish("b", outcome=json.dumps([0] * 1000)) == [1]


@pytest.mark.parametrize("name", ["bytes", "bytes_max", "dropped", "coming"])
@pytest.mark.parametrize("value", ["many", "1e3"])
def test_damaged_sums_of_results_begin_anew(board: JobBoard, name: str, value: str) -> None:
    board.submit(New("a", coming=3000), New("b", coming=3000))
    board.finish("a", outcome=json.dumps([0] * 1000))
    board.redis.hset(keys.JOB_RESULT_COUNTS, name, value)

    board.submit(New("c", coming=3000))
    board.finish("b", outcome=json.dumps([0] * 1000))
    board.tidy(100_000)

    assert board.result_bytes() == 2 * len(json.dumps([0] * 1000))
    assert int(board.redis.hget(keys.JOB_RESULT_COUNTS, "bytes_max")) == 100_000
    board.finish("c")
    board.tidy(100_000)
    assert board.coming() == 0


@pytest.mark.parametrize("value", ["999999999999999", "50000", "15000", "0", "-5"])
def test_a_sum_of_results_that_is_another_costs_nobody_a_result(board: JobBoard, value: str) -> None:
    large = json.dumps([0] * 1000)
    board.submit(*map(New, "abcd"))
    board.finish("a", "b", "c", outcome=large)
    board.tidy(10_000, memory_bytes=20_000)
    board.redis.hset(keys.JOB_RESULT_COUNTS, "bytes", value)

    board.tidy(10_000, memory_bytes=20_000)
    board.finish("d")

    assert all(b"outcome" in board.redis.hgetall(keys.job(id_)) for id_ in "abc")
    if value != "0":
        # A sum that is too small is counted anew when it has become negative.
        assert board.result_bytes() == 3 * len(large)
        [(what, content)] = board.put_aside()
        assert (what.split(":")[-2].split()[-1], content) == ("bytes", value.encode())


def test_a_worker_drops_about_as_much_as_it_adds_by_a_damaged_sum(board: JobBoard) -> None:
    board.submit(*map(New, "abcdefgh"))
    board.finish(*"abcdefg", outcome=json.dumps([0] * 1000))
    board.tidy(100_000)
    board.redis.hset(keys.JOB_RESULT_COUNTS, "bytes", "9" * 14)

    board.finish("h", outcome=json.dumps([0] * 1000))

    dropped = [id_ for id_ in "abcdefgh" if b"outcome" not in board.redis.hgetall(keys.job(id_))]
    assert dropped == ["a", "b"]


def test_a_sum_of_outcomes_to_come_that_redis_can_not_hold_begins_anew(board: JobBoard) -> None:
    board.submit(New("a", coming=3000))
    board.redis.hset(keys.JOB_RESULT_COUNTS, "coming", "999999999999999")
    assert board.submit(New("b", coming=3000), coming_max=10_000) == [b"coming"]

    board.tidy(1000, memory_bytes=10_000)

    assert board.submit(New("b", coming=3000), coming_max=10_000) == [(1, "b", "f")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("coming", "999999999999999"),
        ("coming", "9999999999"),
        ("coming", "x"),
        ("charged", "9999999999"),
        ("charged", "x" * 11),
        ("rows", "[[1]]" * 10_000),
    ],
)
def test_a_damaged_job_does_not_turn_off_the_quota_of_its_owner(board: JobBoard, name: str, value: str) -> None:
    board.submit(New("a", owner="alice", coming=2000), New("other"))
    board.redis.hset(keys.job("a"), name, value)
    assert board.delete("a", owner="alice") == "cancelled"

    answers = [board.submit(New(f"b{n}", owner="alice", coming=2000), owner_bytes_max=20_000) for n in range(5)]

    assert answers[0] == [(1, "b0", "f")]
    assert answers[-1] == [b"owner_bytes"]
    if len(value) > 10 and name != "rows":
        assert board.put_aside() == [(f"{keys.job('a')}: its {name} is unreadable", value.encode())]


def test_an_ended_job_whose_charge_is_damaged_is_forgotten(board: JobBoard) -> None:
    board.submit(New("a", owner="alice"), New("b", owner="alice"))
    board.finish("a", "b")
    board.redis.hset(keys.job("a"), "kept", "x")

    assert board.delete("a", owner="alice") == "forgotten"

    assert board.put_aside() == [(f"{keys.job('a')}: its kept is unreadable", b"x")]
    assert min(board.account("alice").values()) > 0


def test_the_first_job_of_a_list_does_not_shorten_the_life_of_the_others(board: JobBoard) -> None:
    hour = int(board.clock.seconds // 3600)
    board.submit(New("short"), New("long"), retention_seconds=86_400)
    board.redis.hset(keys.job("short"), "retention_seconds", "1")

    board.finish("short", status="failed")
    board.finish("long", status="failed")

    assert board.redis.ttl(keys.job_index("failed", "", hour)) == 3600 + 86_400


def test_a_job_that_claimed_more_than_a_task_can_is_released_alone(board: JobBoard) -> None:
    board.submit(New("a"), New("b"))
    board.start("a", "b")
    before = board.next_check("b")
    board.redis.hset(keys.job("a"), "claimed", "b " * 300_000)

    board.release("a")

    assert board.next_check("a") == board.clock.seconds
    assert board.next_check("b") == before
    assert not board.redis.hexists(keys.job("a"), "claimed")
    assert [what for what, _ in board.put_aside()] == [f"{keys.job('a')}: its claimed is too long"]


def test_a_job_whose_record_was_deleted_has_failed(board: JobBoard) -> None:
    board.submit(New("a"), New("b"), New("c"))
    board.redis.delete(keys.job("a"))
    board.redis.zadd(keys.JOBS_OPEN, {"stray": 0})

    assert [board.reconcile("stray"), board.reconcile("a")] == ["gone", "gone"]

    assert board.counts() == {"accepted": 3, "failed": 1}
    assert board.put_aside() == [(f"{keys.job('a')}: its record is gone", b"")]
    board.finish("b", "c")
    board.assert_conserved()


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_job_that_has_ended_does_not_end_again(board: JobBoard, status: str) -> None:
    board.submit(New("a"), New("b"))
    board.finish("a")
    board.redis.hset(keys.job("a"), "status", status)

    assert board.delete("a") is None
    assert board.start("a") == [None]
    assert board.finish("a") == [0]

    board.assert_conserved()


def test_an_ended_job_without_its_time_can_be_deleted(board: JobBoard) -> None:
    board.submit(New("a"))
    board.finish("a")
    board.redis.hdel(keys.job("a"), "ended_at")

    assert board.delete("a") == "forgotten"
    board.assert_conserved()


@pytest.mark.parametrize("member", ["garbage", "", "x y", " 5", "job nan", "a 99999999999999999999"])
def test_a_member_that_is_no_result_is_dropped_like_one(board: JobBoard, member: str) -> None:
    board.redis.zadd(keys.JOB_RESULTS, {member: 1.0})
    board.submit(New("a"), New("b"))
    board.finish("a", "b", outcome=json.dumps([0] * 1000))

    board.tidy(1)

    assert [value.split()[0] for value in board.redis.zrange(keys.JOB_RESULTS, 0, -1)] == [b"b"]


@pytest.mark.parametrize(
    "fields",
    [{"x": "1"}, {"2991": "many"}, {"9" * 14: "1"}, {"2991670": "9" * 15}, {"counted": "x"}, {"nan": "nan"}, {"": ""}],
)
def test_damaged_parts_of_the_time_are_put_aside(board: JobBoard, fields: dict[str, str]) -> None:
    board.redis.hset(keys.JOBS_KEPT, mapping=fields)
    board.submit(New("a"))
    board.finish("a")

    board.tidy(1000)

    assert len(board.put_aside()) == 1
    assert {field for field in board.redis.hgetall(keys.JOBS_KEPT) if not field.isdigit()} == {b"counted"}


def test_a_list_of_jobs_of_another_type_costs_its_jobs_their_place_only(board: JobBoard) -> None:
    hour = int(board.clock.seconds // 3600)
    board.submit(New("a", owner="alice"))
    board.redis.set(keys.job_index("all", "alice", hour), "no list")
    assert board.list_jobs(owner="alice") == ([], [])

    assert board.submit(New("b", owner="alice"), New("c", owner="bob"))[0] == (1, "b", "f")

    assert board.list_jobs(owner="alice")[1] == ["b"]
    assert board.list_jobs(owner="bob")[1] == ["c"]
    board.assert_conserved()


@pytest.mark.parametrize(
    "spoil",
    [("open", "x"), ("bytes", "-3"), ("2991666", "many"), ("?", "?"), ("2991670", "9" * 15), ("open", "9" * 13)],
)
def test_a_damaged_account_shuts_nobody_out(board: JobBoard, spoil: tuple[str, str]) -> None:
    board.redis.hset(keys.job_owner("alice"), *spoil)

    assert board.submit(New("a", owner="alice"), New("b", owner="bob"), owner_open_max=5) == [
        (1, "a", "f"),
        (1, "b", "f"),
    ]
    board.finish("a", "b")
    assert board.submit(New("c", owner="alice"), owner_open_max=1) == [(1, "c", "f")]


def test_an_account_of_another_type_is_replaced(board: JobBoard) -> None:
    board.redis.set(keys.job_owner("alice"), "no hash")

    assert board.submit(New("a", owner="alice"), owner_open_max=5) == [(1, "a", "f")]
    assert board.submit(New("b", owner="alice"), owner_open_max=5) == [(1, "b", "f")]
    assert board.put_aside()[0][0] == f"{keys.job_owner('alice')}: it is no hash"


def test_what_is_put_aside_is_bounded(board: JobBoard) -> None:
    for number in range(110):
        board.redis.set(keys.idempotency(str(number)), "x" * 100_000)
        board.submit(New(f"job{number}", key=str(number)))

    values: list[Any] = board.redis.lrange(keys.JOBS_DAMAGED, 0, -1)
    assert len(values) == 100
    assert max(map(len, values)) < 66_000


def test_damage_in_the_queue_is_no_entry_of_a_job(board: JobBoard) -> None:
    board.submit(New("a"), envelope="no message")
    board.clock.pass_(20)

    assert board.reconcile("a") == "republished"
    assert len(board.redis.lrange(QUEUE, 0, -1)) == 2
