"""The measurements: every figure of every round, kept as JSON, to which later calls add."""

import os
import platform
import statistics
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

from pydantic import BaseModel, Field

from bench.load import ClosedFigures
from bench.open_loop import OpenFigures


class Round(ClosedFigures):
    """One closed-loop measurement of a system."""

    cpu_seconds_per_1000: float
    """CPU seconds of all its processes per 1,000 good answers, without the load generator."""

    foreign_cores: float = 0.0
    """Cores that were used by neither the system nor the load. Above 0.1 the round is disturbed."""


class Results(BaseModel):
    """All figures of one run."""

    machine: str = ""
    absent: dict[str, str] = Field(default_factory=dict)
    """System -> reason why it was not measured."""

    closed: dict[str, dict[int, list[Round]]] = Field(default_factory=dict)
    """System -> connections -> rounds."""

    pss_bytes: dict[str, list[int]] = Field(default_factory=dict)
    """System -> memory in bytes after the load of each round."""

    open: dict[str, list[OpenFigures]] = Field(default_factory=dict)
    """System -> offered rates, ascending."""

    measures: dict[str, list[float]] = Field(default_factory=dict)
    """Name of a measure -> rounds; see `bench.measures`."""

    def add(self, measures: dict[str, float]) -> None:
        """Add a round of measures."""
        for name, value in measures.items():
            self.measures.setdefault(name, []).append(value)

    def measure(self, name: str) -> float | None:
        """Return the median of a measure over its rounds."""
        return median(self.measures.get(name, []))

    def foreign_cores(self, system: str, connections: int) -> float | None:
        """Return the cores that other processes took in the worst round."""
        return max((run.foreign_cores for run in self._rounds(system, connections)), default=None)

    def rate(self, system: str, connections: int) -> float | None:
        """Return the requests per second of a system."""
        return median(run.requests_per_second for run in self._rounds(system, connections))

    def p50_seconds(self, system: str, connections: int) -> float | None:
        """Return the median latency of a system."""
        return median(run.p50_seconds for run in self._rounds(system, connections))

    def p99_seconds(self, system: str, connections: int) -> float | None:
        """Return the latency that one request in a hundred exceeds."""
        return median(run.p99_seconds for run in self._rounds(system, connections))

    def _rounds(self, system: str, connections: int) -> list[Round]:
        return self.closed.get(system, {}).get(connections, [])

    @classmethod
    def read(cls, file: Path) -> "Results":
        """Return the results of an earlier call, or empty ones."""
        return cls.model_validate_json(file.read_text()) if file.is_file() else cls()

    def write(self, file: Path) -> None:
        """Write the results, with the date and the machine of this call."""
        self.machine = _machine()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(self.model_dump_json(indent=1) + "\n")


def median(values: Iterable[float]) -> float | None:
    """Return the median, or None for no values."""
    found = list(values)
    return statistics.median(found) if found else None


def _machine() -> str:
    cores = len(os.sched_getaffinity(0))
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )
    day = datetime.now(timezone.utc).date()
    return f"{cores} cores ({model}), Linux {platform.release()}, Python {platform.python_version()}, {day}"
