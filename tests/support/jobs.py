"""The job scripts as tests call them, on a Redis of the test's own with a clock that the test controls."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fakeredis import FakeRedis

from shared.queue import keys
from shared.queue.contract import OUTCOMES, Lane
from shared.queue.job_scripts import script

QUEUE = Lane.BULK.value
OPEN_STATUSES = ("queued", "running")
CHECK_SECONDS = 10.0
GRACE_SECONDS = 2.0
LEASE_SECONDS = 35.0
HORIZON_SECONDS = 130.0
UNLIMITED = 10**15


@dataclass
class Clock:
    """A stand-in for `time.time`, which the fake Redis uses."""

    seconds: float = 1_795_000_000.0

    def __call__(self) -> float:
        return self.seconds

    def pass_(self, seconds: float) -> None:
        """Advance the clock."""
        self.seconds += seconds


@dataclass(frozen=True)
class New:
    """A job to submit."""

    id: str
    key: str = ""
    fingerprint: str = "f"
    rows: str = "[[1.0]]"
    single: int = 1
    owner: str = ""
    trace: str = ""
    coming: int = 0
    """Bytes of the outcome to come."""

    @property
    def idempotency_key(self) -> str:
        """Redis key of the idempotency key, if the job has one."""
        return keys.idempotency(self.key, self.owner) if self.key else keys.job(self.id)


class JobBoard:
    """Each transition as one call, and the state of the jobs afterwards."""

    def __init__(self, clock: Clock) -> None:
        self.redis: Any = FakeRedis()
        self.clock = clock
        names = ("submit", "start", "claim", "finish", "delete", "release", "reconcile", "list", "read", "tidy")
        self._scripts = {name: self.redis.register_script(script(name)) for name in names}

    def _call(self, name: str, more_keys: Sequence[str], args: Sequence[Any]) -> Any:
        return self._scripts[name](keys=[keys.JOBS_OPEN, keys.JOB_COUNTS, *more_keys], args=args)

    def submit(
        self,
        *jobs: New,
        envelope: str = "message",
        max_open: int = 1000,
        expiry_seconds: float = 3600,
        retention_seconds: int = 600,
        max_attempts: int = 3,
        coming_max: int = UNLIMITED,
        owner_open_max: int = UNLIMITED,
        owner_bytes_max: int = UNLIMITED,
    ) -> Any:
        """Return the script's answer per job: (created, id, fingerprint), None if there was no room, or a reason."""
        names, args = [QUEUE], [envelope, max_open, CHECK_SECONDS, expiry_seconds, retention_seconds, max_attempts]
        args += [coming_max, owner_open_max, owner_bytes_max]
        for job in jobs:
            names += [keys.job(job.id), job.idempotency_key]
            args += [job.id, "iris", "v1", job.rows, job.single, job.fingerprint, job.owner, job.trace]
            args += [job.coming]
        answers = self._call("submit", names, args)
        return [
            (answer[0], answer[1].decode(), answer[2].decode()) if isinstance(answer, list) else answer
            for answer in answers
        ]

    def start(self, *ids: str, lease_seconds: float = 35, redelivered: bool = False) -> list[int | None]:
        """Return the number of the started attempt per job, or None."""
        args = [keys.JOBS_ENDED, lease_seconds, int(redelivered), *ids]
        return [answer and answer[4] for answer in self._call("start", _records(ids), args)]

    def submit_message(self, *ids: str) -> bytes:
        """Submit jobs together and return their entry in the queue."""
        entry = json.dumps({"headers": {"published_at": self.clock.seconds}, "jobs": ids})
        self.submit(*map(New, ids), envelope=entry)
        return entry.encode()

    def claim(self, *messages: tuple[bytes, list[str]], rows_bytes: int = 65_536, task: str = "") -> list[str]:
        """Return the jobs that were started from these entries, oldest first.

        `task` is the job that the task came with.
        """
        args: list[Any] = [keys.JOBS_ENDED, 35, rows_bytes]
        for entry, ids in messages:
            args += [entry, len(ids), *ids]
        records = _records([id_ for _, ids in messages for id_ in ids])
        came_with = keys.job(task) if task else keys.JOBS_OPEN
        return [id_.decode() for id_, _ in self._call("claim", [QUEUE, came_with, *records], args)]

    def start_one(self, id_: str) -> Any:
        """Return all fields that a worker receives."""
        return self._call("start", _records([id_]), [keys.JOBS_ENDED, 35, 0, id_])[0]

    def finish(
        self,
        *ids: str,
        status: str = "succeeded",
        outcome: str = '{"predictions":[1]}',
        is_rejected: bool = False,
    ) -> list[int]:
        """Return per job whether this call wrote its outcome."""
        args: list[Any] = [keys.JOBS_ENDED]
        for id_ in ids:
            args += [id_, status, outcome, 0.5, int(is_rejected)]
        answers: list[int] = self._call("finish", _records(ids), args)[1:]
        return answers

    def delete(self, id_: str, owner: str = "") -> str | None:
        """Cancel or forget a job; return which, None if the owner has no such job."""
        done: bytes | None = self._call("delete", _records([id_]), [keys.JOBS_ENDED, id_, owner])
        return None if done is None else done.decode()

    def tidy(self, bytes_max: int, retention_seconds: int = 600, most: int = 500, memory_bytes: int = UNLIMITED) -> int:
        """Let the results be at most so many bytes; return 1 if there is more to do."""
        more: int = self._call("tidy", [QUEUE], [bytes_max, retention_seconds, most, memory_bytes])
        return more

    def list_jobs(
        self,
        index: str = "all",
        owner: str = "",
        place: Sequence[Any] = ("", ""),
        since: float = 0.0,
        status: str = "",
        model: str = "",
        limit: int = 100,
        most: int = 1000,
    ) -> tuple[list[int], list[str]]:
        """Return the place where the next page begins, empty at the end, and the ids of a page."""
        oldest = max(since, self.clock.seconds - 100 * 3600)
        place, *found = self._call("list", [], [index, owner, *place, oldest, status, model, limit, most])
        return list(place), [id_.decode() for id_, _ in found]

    def read(self, id_: str, *fields: str, owner: str = "", outcome_max_bytes: int = 1000) -> list[Any]:
        """Return the bytes of an outcome that is larger, else 0, the fields and the outcome; [] for another owner's."""
        found: list[Any] = self._call("read", [keys.job(id_)], [owner, outcome_max_bytes, *fields])
        return [value.decode() if isinstance(value, bytes) else value for value in found]

    def result_bytes(self) -> int:
        """Return the counted bytes of kept results, after checking that they are those of the records."""
        members = [member.decode().split() for member in self.redis.zrange(keys.JOB_RESULTS, 0, -1)]
        counted = int(self.redis.hget(keys.JOB_RESULT_COUNTS, "bytes") or 0)
        assert counted == sum(int(size) for _, size in members)
        for id_, size in members:
            assert self.redis.hstrlen(keys.job(id_), "outcome") in (0, int(size)), "0: it has aged out"
        return counted

    def release(self, *ids: str) -> None:
        """Record that the process of these jobs died."""
        self._call("release", _records(ids), ids)

    def reconcile(self, id_: str) -> str:
        """Return the reconciler's action."""
        args = [keys.JOBS_ENDED, id_, self.envelope(), CHECK_SECONDS, GRACE_SECONDS, LEASE_SECONDS, HORIZON_SECONDS]
        action: str = self._call("reconcile", [QUEUE, *_records([id_])], args).decode()
        return action

    def envelope(self) -> str:
        """Return a queue entry that is published now."""
        return json.dumps({"headers": {"published_at": self.clock.seconds}})

    def record(self, id_: str) -> dict[str, str]:
        """Return all fields of a record; an empty dictionary for an unknown job."""
        return {name.decode(): value.decode() for name, value in self.redis.hgetall(keys.job(id_)).items()}

    def status(self, id_: str) -> str | None:
        """Return the status of a job, None for an unknown job."""
        return self.record(id_).get("status")

    def next_check(self, id_: str) -> float | None:
        """Return the time of the reconciler's next check, None once the job has ended."""
        score: float | None = self.redis.zscore(keys.JOBS_OPEN, id_)
        return score

    def ttl(self, id_: str) -> float | None:
        """Return the seconds until the record expires, None if it does not."""
        milliseconds: int = self.redis.pttl(keys.job(id_))
        return milliseconds / 1000 if milliseconds >= 0 else None

    def counts(self) -> dict[str, int]:
        """Return the counts: accepted, and one per outcome."""
        return {name.decode(): int(value) for name, value in self.redis.hgetall(keys.JOB_COUNTS).items()}

    def account(self, owner: str) -> dict[str, int]:
        """Return the account of an owner, without what is 0."""
        found = self.redis.hgetall(keys.job_owner(owner))
        return {field.decode(): int(amount) for field, amount in found.items() if int(amount)}

    def coming(self) -> int:
        """Return the bytes of the outcomes to come."""
        return int(self.redis.hget(keys.JOB_RESULT_COUNTS, "coming") or 0)

    def put_aside(self) -> list[tuple[str, bytes]]:
        """Return the damaged data that was put aside, last first: what it is, and its content."""
        values = [value.partition(b"\n") for value in self.redis.lrange(keys.JOBS_DAMAGED, 0, -1)]
        return [(name.decode(), content) for name, _, content in values]

    def queue(self) -> list[bytes]:
        """Return the entries of the queue in the order in which they are taken."""
        entries: list[bytes] = self.redis.lrange(QUEUE, 0, -1)
        return entries[::-1]

    def everything(self) -> dict[bytes, bytes | None]:
        """Return the whole content of Redis."""
        return {key: self.redis.dump(key) for key in self.redis.scan_iter()}

    def assert_conserved(self) -> None:
        """Check that accepted = outcomes + open."""
        counts = self.counts()
        outcomes = sum(counts.get(outcome.value, 0) for outcome in OUTCOMES)
        assert counts.get("accepted", 0) == outcomes + self.redis.zcard(keys.JOBS_OPEN), counts


def _records(ids: Iterable[str]) -> list[str]:
    return [keys.job(id_) for id_ in ids]
