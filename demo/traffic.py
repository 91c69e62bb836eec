"""Calls of every kind that a gateway meets: good ones, jobs, and those that are wrong on purpose."""

import json
from dataclasses import dataclass
from random import Random

from demo.model import Model
from demo.sampler import Row, Sampler
from headrace.models.manifest import Feature

ROW, ROWS, JOB, BURST = "one row", "many rows", "job", "burst"
INVALID, BAD_JSON, UNKNOWN_MODEL, TIGHT = "invalid row", "bad JSON", "unknown model", "tight deadline"
WRONG = (INVALID, BAD_JSON, UNKNOWN_MODEL, TIGHT)
KINDS = (ROW, ROWS, JOB, BURST, *WRONG)

ROWS_CHANCE = 0.15
"""Of a good call that is no job: to hold many rows."""

ROWS_MOST = 50
CANCEL_CHANCE = 0.2
"""Of a job: to be cancelled at once."""

INVALID_CHANCE = 0.4
"""Of a wrong call: to hold rows that are none; the rest is shared out."""

TIGHT_SECONDS = 0.0001
"""Over before any row has gone through a queue."""


@dataclass(frozen=True)
class Call:
    """A request to POST; `cancel` if the job that it makes is to be cancelled."""

    kind: str
    path: str
    body: bytes
    cancel: bool = False


class Traffic:
    """Makes calls; `errors` and `jobs` are the shares of wrong ones and of jobs, 0 to 1."""

    def __init__(self, model: Model, sampler: Sampler, seed: int, errors: float, jobs: float) -> None:
        self._prefix = model.prefix
        self._features = model.features
        self._sampler = sampler
        self._random = Random(seed)
        self._errors = errors
        self._jobs = jobs

    def call(self, drift: float) -> Call:
        """The next call, with rows that have drifted so far."""
        if self._random.random() < self._errors:
            return self._wrong(drift)
        if self._random.random() < self._jobs:
            cancel = self._random.random() < CANCEL_CHANCE
            return Call(JOB, f"{self._prefix}/jobs", self._instances(drift), cancel)
        if self._random.random() < ROWS_CHANCE:
            return Call(ROWS, f"{self._prefix}/predict", self._instances(drift))
        return Call(ROW, f"{self._prefix}/predict", encoded(self._sampler.row(drift)))

    def _instances(self, drift: float) -> bytes:
        return encoded({"instances": [self._sampler.row(drift) for _ in range(self._random.randint(2, ROWS_MOST))]})

    def _wrong(self, drift: float) -> Call:
        row, path = self._sampler.row(drift), f"{self._prefix}/predict"
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
        feature = self._random.choice(self._features)
        match self._random.randrange(3):
            case 0:
                del row[feature.name]
            case 1:
                row[feature.name] = _of_another_type(feature)
            case _:
                row[f"{feature.name}, again"] = row[feature.name]
        return row


def _of_another_type(feature: Feature) -> str | int:
    return 17 if feature.type == "string" else "many"


def encoded(content: Row) -> bytes:
    """JSON as short as it can be."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
