"""The whole stack as the users of Redis that Compose defines: each does its work, and can do nothing else."""

import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from celery import Celery

from gateway.broker.dead_letters import main as dead_letters
from shared.queue import keys
from tests.support.control_messages import ASKER, HOSTILE, REPLY_EXCHANGE, asked
from tests.support.exporter import exporter, why_no_exporter
from tests.support.exposition import Scrape
from tests.support.processes import wait_for
from tests.support.requirements import require
from tests.support.stack import Stack

CONTROL_CHANNEL = "/0.celery.pidbox"
GOOD = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, iris_models: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"), iris_models, redis_users=True, JOB_CHECK_SECONDS="1")
    try:
        yield stack.start()
    finally:
        stack.close()


def denials(stack: Stack) -> list[tuple[str, str, str]]:
    """Return the commands that Redis denied to the stack: user, object, reason."""
    log: list[dict[str, Any]] = stack.redis.acl_log(128)
    return [(entry["username"], entry["object"], entry["reason"]) for entry in log]


def client(stack: Stack, user: str) -> redis.Redis:
    return redis.Redis.from_url(stack.url_of(user))


def test_all_that_a_stack_does_is_allowed(stack: Stack) -> None:
    stack.redis.acl_log_reset()
    assert stack.predict(GOOD).json()["prediction"] == "setosa"
    assert stack.predict([GOOD] * 2000).status_code == 200
    assert stack.predict(GOOD, headers={"Prefer": "wait=10"}).json()["prediction"] == "setosa"
    jobs = [stack.submit(GOOD, headers={"Idempotency-Key": str(number % 15)}) for number in range(20)]
    assert {stack.outcome(job)["status"] for job in jobs} == {"succeeded"}
    large = stack.submit([GOOD] * 100)
    assert stack.outcome(large)["status"] == "succeeded"
    wait_for("its result is counted", lambda: stack.redis.zcard(keys.JOB_RESULTS) == 1)
    # With the one of the prediction that was asked for as a job.
    assert len(stack.http.get("/jobs").json()["jobs"]) == 17
    assert stack.http.delete(f"/jobs/{large}").status_code == 204
    wait_for("ended jobs are counted", lambda: stack.redis.hget(keys.JOBS_KEPT, "counted") == b"17")
    assert stack.http.delete(f"/jobs/{jobs[0]}").status_code == 204
    stack.redis.lpush("interactive", "not an entry")
    wait_for("a dead letter", lambda: stack.redis.llen(keys.DEAD_LETTERS) == 1)
    stack.redis.hset(keys.JOB_COUNTS, "expired", "many")
    stack.redis.set(keys.job_index("all", "", int(time.time() // 3600)), "no list")
    wait_for("the count is mended", lambda: stack.redis.hget(keys.JOB_COUNTS, "expired") == b"0")
    assert stack.outcome(stack.submit(GOOD))["status"] == "succeeded"
    wait_for("all are dead letters", lambda: stack.redis.llen(keys.DEAD_LETTERS) == 3)
    with client(stack, "gateway") as gateway:
        assert gateway.xrevrange(keys.replies("no gateway")) == []

    [worker] = stack.workers
    worker.stop()
    spoilt, lost, held = stack.submit(GOOD), stack.submit(GOOD), stack.submit(GOOD)
    stack.redis.hset(keys.job(spoilt), "status", "succeeded")
    entry: Any = stack.redis.lpop("bulk")
    # The older job's entry is lost, the younger job is held by a worker that died.
    stack.redis.delete("bulk")
    stack.redis.hset("unacked", "tag", json.dumps([json.loads(entry), "", "bulk"]))
    stack.redis.zadd("unacked_index", {"tag": 1})
    wait_for("its damage is found", lambda: stack.redis.hget(keys.job(spoilt), "status") == b"failed")
    worker.start()
    assert {stack.outcome(job)["status"] for job in (lost, held)} == {"succeeded"}
    wait_for("no entry is held", lambda: stack.redis.hlen("unacked") == 0)
    assert stack.http.get("/metrics").status_code == 200
    stack.assert_conserved()

    assert denials(stack) == []


def answers(stack: Stack, exporter: redis.Redis, ticket: str) -> bool:
    """Ask the worker, and return True if the answer to this ticket comes within a second."""
    exporter.publish(CONTROL_CHANNEL, asked(ticket=ticket))
    reply: Any = stack.redis.blpop([f"{ASKER}.{REPLY_EXCHANGE}"], 1)
    return reply is not None and ticket.encode() in reply[1]


def test_whoever_may_ask_a_worker_can_neither_end_nor_mute_it(stack: Stack) -> None:
    """celery-exporter's user may publish on the channel of remote control, and write the keys that kombu uses there."""
    [worker] = stack.workers
    pids = [worker.pid, *worker.children()]
    letters = stack.redis.llen(keys.DEAD_LETTERS)
    with client(stack, "exporter") as exporter:
        exporter.set("_kombu.binding.celery.pidbox", "no set")
        exporter.sadd(f"_kombu.binding.{REPLY_EXCHANGE}", f"{ASKER}\x06\x16\x06\x16interactive")
        *hostile, long = sorted(HOSTILE.values(), key=len)
        for start in range(0, len(hostile), 10):
            for message in hostile[start : start + 10]:
                wait_for("the worker listens", partial(exporter.publish, CONTROL_CHANNEL, message))
            wait_for("a question behind them is answered", partial(answers, stack, exporter, str(uuid.uuid4())))
        for message in (long, *[asked()] * 1000):
            exporter.publish(CONTROL_CHANNEL, message)

    assert stack.predict(GOOD).json()["prediction"] == "setosa"
    assert stack.outcome(stack.submit(GOOD))["status"] == "succeeded"
    assert [worker.pid, *worker.children()] == pids
    assert stack.redis.llen(keys.DEAD_LETTERS) == letters, "no reply went anywhere else"
    assert "Traceback" not in worker.log()


def test_celerys_inspect_gets_its_answers_also_after_a_flood(stack: Stack) -> None:
    app = Celery(broker=stack.url_of("tester"), set_as_current=False)

    def inspected(question: str) -> Any:
        with app.connection_for_read() as connection:
            return getattr(app.control.inspect(timeout=1.0, limit=1, connection=connection), question)()

    [stats] = wait_for("an answer, also after a flood", lambda: inspected("stats")).values()
    [queues] = inspected("active_queues").values()

    assert sorted(stats["pool"]["processes"]) == sorted(stack.workers[0].children())
    assert [queue["name"] for queue in queues] == ["interactive", "bulk"]


def test_the_exporter_sees_all_and_runs_no_script(stack: Stack) -> None:
    """kombu's lock, which a script releases, is tried whenever the exporter has waited for answers."""
    require((why := why_no_exporter()) is None, str(why))
    stack.redis.acl_log_reset()
    with exporter(stack.folder, stack.url_of("exporter")) as port:

        def sees_the_stack() -> bool:
            assert stack.predict(GOOD).status_code == 200
            with suppress(httpx.TransportError):
                seen = Scrape(f"http://127.0.0.1:{port}/metrics")
                return (
                    {"celery_worker_up", "celery_task_succeeded_total"} <= seen.names
                    and seen.total("celery_worker_up") == 1
                    and seen.total("celery_active_worker_count", queue_name="interactive") == 1
                )
            return False

        # The exporter makes a new connection for each scrape.
        for _ in range(2):
            wait_for("the exporter sees tasks, worker and queues", sees_the_stack)
    assert denials(stack) == []
    assert "Traceback" not in (stack.folder / "exporter.log").read_text()


def test_keys_of_a_wrong_type_are_replaced(stack: Stack) -> None:
    stack.redis.delete(keys.DEAD_LETTERS)
    buried = [keys.JOBS_OPEN, keys.JOBS_KEPT, keys.JOB_RESULTS, keys.WORKERS, "interactive", "bulk"]
    damaged = [*buried, "unacked", "unacked_index"]
    for key in damaged:
        stack.redis.set(key, "no such thing")
    stack.redis.delete(keys.RECONCILER_LOCK)
    stack.redis.rpush(keys.RECONCILER_LOCK, "no lock")

    def replaced() -> bool:
        return all(stack.redis.type(key) != b"string" for key in damaged)

    wait_for("they are replaced", replaced)
    assert stack.outcome(wait_for("a job is accepted", lambda: _accepted(stack)))["status"] == "succeeded"
    assert stack.predict(GOOD).status_code == 200
    stack.wait_ready()
    wait_for("all are dead letters", lambda: stack.redis.llen(keys.DEAD_LETTERS) >= len(buried))
    stack.redis.delete(keys.DEAD_LETTERS)


def _accepted(stack: Stack) -> str | None:
    answer = stack.http.post("/jobs", json=GOOD)
    job_id: str | None = answer.json()["id"] if answer.status_code == 202 else None
    return job_id


def test_accepted_jobs_are_still_there_when_redis_was_restarted(stack: Stack) -> None:
    [worker] = stack.workers
    worker.stop()
    jobs = [stack.submit(GOOD) for _ in range(3)]
    done = stack.jobs()["succeeded"]
    assert stack.broker.stop() == 0
    stack.start_broker()
    worker.start()

    assert {stack.outcome(job)["status"] for job in jobs} == {"succeeded"}
    assert stack.jobs()["succeeded"] == done + len(jobs)
    stack.assert_conserved()


@pytest.mark.parametrize("user", ["gateway", "worker", "exporter"])
@pytest.mark.parametrize(
    "command",
    [
        ["FLUSHALL"],
        ["FLUSHDB"],
        ["CONFIG", "GET", "*"],
        ["CONFIG", "SET", "dir", "/tmp"],
        ["KEYS", "*"],
        ["SCAN", "0"],
        ["EVAL", "return 1", "0"],
        ["ACL", "LIST"],
        ["CLIENT", "LIST"],
        ["CLIENT", "KILL", "TYPE", "normal"],
        ["SHUTDOWN", "NOSAVE"],
        ["MODULE", "LIST"],
        ["REPLICAOF", "127.0.0.1", "1"],
        ["SAVE"],
        ["MONITOR"],
        ["SCRIPT", "FLUSH"],
        ["FUNCTION", "FLUSH"],
        ["SET", "other", "1"],
        ["GET", "other"],
        ["DEL", "interactive"],
        ["DEL", "headrace:jobs:open"],
        ["PUBLISH", "other", "x"],
        ["SUBSCRIBE", "other"],
    ],
    ids=" ".join,
)
def test_no_user_may_do_more(stack: Stack, user: str, command: list[str]) -> None:
    with client(stack, user) as connection, pytest.raises(redis.exceptions.NoPermissionError):
        connection.execute_command(*command)


@pytest.mark.parametrize(
    ("user", "command"),
    [
        ("gateway", ["RPOP", "interactive"]),
        ("gateway", ["BRPOP", "bulk", "1"]),
        ("gateway", ["LTRIM", "interactive", "0", "0"]),
        ("gateway", ["DEL", "headrace:reconciler"]),
        ("gateway", ["HDEL", "unacked", "x"]),
        ("gateway", ["XADD", "headrace:replies:x", "*", "reply", "forged"]),
        ("gateway", ["PUBLISH", "/0.celery.pidbox", "shutdown"]),
        ("worker", ["HGETALL", "headrace:job:x"]),
        ("worker", ["DEL", "headrace:job:x"]),
        ("worker", ["SUBSCRIBE", "headrace:replies"]),
        ("worker", ["SADD", "_kombu.binding.celery.pidbox", "x"]),
        ("worker", ["LPUSH", "celeryev.x", "x"]),
        ("exporter", ["SCRIPT", "LOAD", "while true do end"]),
        ("exporter", ["EVALSHA", "0" * 40, "0"]),
        ("exporter", ["SET", "headrace:restore", "x"]),
        ("exporter", ["SET", "unacked_mutex", "x"]),
        ("exporter", ["LPUSH", "interactive", "task"]),
        ("exporter", ["RPOP", "interactive"]),
        ("exporter", ["LINDEX", "bulk", "0"]),
        ("exporter", ["HGETALL", "headrace:job:x"]),
        ("exporter", ["GET", "headrace:reconciler"]),
        ("exporter", ["SMEMBERS", "_kombu.binding.celery.pidbox"]),
    ],
    ids=str,
)
def test_each_user_has_its_own_work_only(stack: Stack, user: str, command: list[str]) -> None:
    with client(stack, user) as connection, pytest.raises(redis.exceptions.NoPermissionError):
        connection.execute_command(*command)


def test_an_operator_can_clear_dead_letters(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", stack.url_of("operator"))
    stack.redis.lpush(keys.DEAD_LETTERS, b"not in the form of this version")
    assert dead_letters(["list"]) == 0
    assert dead_letters(["drop", "--all"]) == 0
    assert stack.redis.llen(keys.DEAD_LETTERS) == 0


def test_an_operator_can_inspect_and_repair_and_not_destroy(stack: Stack) -> None:
    allowed = [
        "PING",
        "INFO memory",
        "CONFIG GET maxmemory-policy",
        "CLIENT LIST",
        "SCAN 0",
        "HGETALL headrace:workers",
    ]
    allowed += ["LLEN bulk", "LINDEX bulk -1", "ZSCORE headrace:jobs:open x", "ZADD headrace:jobs:open 0 x"]
    allowed += ["ZREM headrace:jobs:open x", "DEL headrace:dead_letters", "HINCRBY headrace:jobs:counts accepted 0"]
    refused = ["FLUSHALL", "CONFIG SET dir /tmp", "SHUTDOWN", "ACL LIST", "MODULE LIST", "REPLICAOF no one", "MONITOR"]
    with client(stack, "operator") as connection:
        for command in allowed:
            connection.execute_command(*command.split())
        for command in [*refused, "EVAL 1 0"]:
            with pytest.raises(redis.exceptions.NoPermissionError):
                connection.execute_command(*command.split())


def test_an_operator_can_end_a_script_that_does_not_end(stack: Stack) -> None:
    stack.redis.config_set("lua-time-limit", 50)
    with ThreadPoolExecutor(1) as pool, client(stack, "tester") as endless, client(stack, "operator") as operator:
        operator.ping()
        running = pool.submit(endless.eval, "while true do end", 0)

        def killed() -> bool:
            try:
                return bool(operator.script_kill())
            except redis.ResponseError as error:
                assert "NOTBUSY" in str(error)
                return False

        wait_for("the script has begun and is ended", killed)
        with pytest.raises(redis.ResponseError, match="killed"):
            running.result(10)
    assert stack.predict(GOOD).status_code == 200


@pytest.mark.parametrize("credentials", ["", "default:@", ":gateway@", "gateway:worker@", "nobody:nobody@"])
def test_no_other_user_gets_in(stack: Stack, credentials: str) -> None:
    with (
        redis.Redis.from_url(stack.redis_url.replace("//", f"//{credentials}")) as connection,
        pytest.raises(redis.exceptions.AuthenticationError),
    ):
        connection.ping()
