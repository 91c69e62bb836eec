"""The calls that the demo sends: good ones, jobs, calls that are wrong on purpose, and what happens when."""

import json
import math
from dataclasses import dataclass
from random import Random
from typing import Any

from demo.rows import Model, Row, Sampler

ROW, ROWS, JOB, BURST = "one row", "many rows", "job", "burst"
INVALID, BAD_JSON, UNKNOWN_MODEL, TIGHT = "invalid row", "bad JSON", "unknown model", "tight deadline"
WRONG = (INVALID, BAD_JSON, UNKNOWN_MODEL, TIGHT)
KINDS = (ROW, ROWS, JOB, BURST, *WRONG)

ROWS_CHANCE = 0.15
"""Probability that a good call that is no job holds several rows."""

ROWS_MAX = 50
CANCEL_CHANCE = 0.2
"""Probability that a job is cancelled at once."""

INVALID_CHANCE = 0.4
"""Probability that a wrong call holds an invalid row; the other kinds share the rest."""

TIGHT_SECONDS = 0.0001
"""A deadline that is over before any row has gone through a queue."""

BURST_DRAWN_VALUES = 8_000
"""Values drawn for a burst call, about a microsecond each; the call repeats their rows."""

BURST_BODY_BYTES_MAX = 2_000_000
BURST_SECONDS = 8.0
RAMP_SECONDS = 10.0
"""Time from the first drifted row until the drift has its full strength."""


@dataclass(frozen=True)
class Scenario:
    """The times of drift and bursts, in seconds since the start."""

    drift_after: float = 35.0
    """`inf` for no drift."""

    burst_every: float = 40.0
    """The first burst starts after half of it; 0 for no bursts."""

    def drift(self, elapsed: float) -> float:
        """Return the strength of the drift, 0 to 1."""
        return min(max((elapsed - self.drift_after) / RAMP_SECONDS, 0.0), 1.0)

    def next_burst(self, elapsed: float) -> float:
        """Return when the current burst began, or else when the next one begins; `inf` if there are none."""
        if not self.burst_every:
            return math.inf
        first = self.burst_every / 2
        last = first + max(0, math.floor((elapsed - first) / self.burst_every)) * self.burst_every
        return last if elapsed < last + BURST_SECONDS else last + self.burst_every

    def phase(self, elapsed: float) -> str:
        """Return `burst`, `drift` or `steady`."""
        if self.next_burst(elapsed) <= elapsed:
            return "burst"
        return "drift" if self.drift(elapsed) else "steady"


@dataclass(frozen=True)
class Call:
    """A request to POST; `cancel` if the job that it makes is to be cancelled."""

    kind: str
    path: str
    body: bytes
    cancel: bool = False


class Traffic:
    """A source of calls; `errors` and `jobs` are the shares of wrong calls and of jobs, 0 to 1."""

    def __init__(self, model: Model, sampler: Sampler, seed: int, errors: float, jobs: float) -> None:
        self._model = model
        self._sampler = sampler
        self._random = Random(seed)
        self._errors = errors
        self._jobs = jobs

    def call(self, drift: float) -> Call:
        """Make the next call, with rows that have drifted so far."""
        if self._random.random() < self._errors:
            return self._wrong(drift)
        if self._random.random() < self._jobs:
            cancel = self._random.random() < CANCEL_CHANCE
            return Call(JOB, f"{self._model.prefix}/jobs", self._instances(drift), cancel)
        if self._random.random() < ROWS_CHANCE:
            return Call(ROWS, f"{self._model.prefix}/predict", self._instances(drift))
        return Call(ROW, f"{self._model.prefix}/predict", encoded(self._sampler.row(drift)))

    def burst(self, drift: float, rows: int) -> Call:
        """Make a call of so many rows, or as many as fit into a body; few of them differ."""
        different = min(rows, max(1, BURST_DRAWN_VALUES // len(self._model.features)))
        drawn = b",".join(encoded(self._sampler.row(drift)) for _ in range(different))
        times = max(1, min(rows // different, BURST_BODY_BYTES_MAX // len(drawn)))
        return Call(BURST, f"{self._model.prefix}/predict", b'{"instances":[%s]}' % b",".join([drawn] * times))

    def _instances(self, drift: float) -> bytes:
        return encoded({"instances": [self._sampler.row(drift) for _ in range(self._random.randint(2, ROWS_MAX))]})

    def _wrong(self, drift: float) -> Call:
        row, path = self._sampler.row(drift), f"{self._model.prefix}/predict"
        others = [BAD_JSON, UNKNOWN_MODEL, TIGHT]
        kind = INVALID if self._random.random() < INVALID_CHANCE else self._random.choice(others)
        if kind == BAD_JSON:
            return Call(kind, path, encoded(row)[:-1])
        if kind == UNKNOWN_MODEL:
            return Call(kind, "/models/nobody-serves-this/predict", encoded(row))
        if kind == TIGHT:
            return Call(kind, f"{path}?deadline={TIGHT_SECONDS:f}", encoded(row))
        return Call(kind, path, encoded(self._spoiled(row)))

    def _spoiled(self, row: Row) -> Row:
        """Make a row invalid: without a value, with one of another type, or with one too many."""
        feature = self._random.choice(self._model.features)
        match self._random.randrange(3):
            case 0:
                del row[feature.name]
            case 1:
                row[feature.name] = 17 if feature.type == "string" else "many"
            case _:
                row[f"{feature.name}, again"] = row[feature.name]
        return row


def encoded(content: dict[str, Any]) -> bytes:
    """Return compact JSON."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
