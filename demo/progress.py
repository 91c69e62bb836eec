"""One line of how it goes: rewritten in place for a person, one every few seconds for a log."""

import os
import time
from typing import TextIO

from demo.scenario import Scenario
from demo.tally import OUTCOMES, Tally, quantile

TERMINAL_SECONDS = 0.5
LOG_SECONDS = 5.0


class Progress:
    """Writes the line to a stream."""

    def __init__(self, out: TextIO, tally: Tally, scenario: Scenario) -> None:
        self._out = out
        self._tally = tally
        self._scenario = scenario
        self._in_place = out.isatty()
        self.every_seconds = TERMINAL_SECONDS if self._in_place else LOG_SECONDS

    def line(self, elapsed: float, now: float) -> str:
        """All that is worth a glance; `now` is a time of `time.perf_counter`."""
        rate, latencies = self._tally.recent(now)
        p50, p95 = (milliseconds(quantile(latencies, share)) for share in (0.5, 0.95))
        parts = [
            f"{clock(elapsed)} {self._scenario.phase(elapsed):<6} {rate:4.0f}/s p50 {p50} p95 {p95} ms",
            " ".join(f"{outcome} {count}" for outcome, count in self._tally.outcomes().items()),
            f"jobs {self._tally.jobs_open} open {self._tally.jobs_ended.total()} ended",
        ]
        return " | ".join(parts)

    def show(self, elapsed: float) -> None:
        """Write it now."""
        line = self.line(elapsed, time.perf_counter())
        if self._in_place:
            # A line that wraps could not be rewritten.
            self._out.write(f"\r{line[: _columns(self._out) - 1]}\x1b[K")
        else:
            self._out.write(f"{line}\n")
        self._out.flush()

    def leave(self) -> None:
        """What comes next goes below it."""
        if self._in_place:
            self._out.write("\n")


def summary(tally: Tally) -> str:
    """What came of it all, as a table: one line for each kind of call."""
    kinds = list(dict.fromkeys(kind for kind, _ in tally.calls))
    head = f"{'':16}" + "".join(f"{name:>10}" for name in (*OUTCOMES, "p50 ms", "p95 ms"))
    lines = [head]
    for kind in kinds:
        counts = "".join(f"{count or '':>10}" for count in tally.outcomes([kind]).values())
        ordered = tally.latencies(kind)
        lines.append(f"{kind:16}{counts}" + "".join(f"{milliseconds(quantile(ordered, at)):>10}" for at in (0.5, 0.95)))
    ended = ", ".join(f"{count} {how}" for how, count in sorted(tally.jobs_ended.items()))
    lines.append(f"jobs: {ended or 'none ended'}" + (f", {tally.jobs_open} still open" if tally.jobs_open else ""))
    if tally.held_back:
        lines.append(f"{tally.held_back} calls were due and not sent: too many had no answer yet")
    return "\n".join(lines)


def milliseconds(seconds: float | None) -> str:
    """For people."""
    return "-" if seconds is None else f"{seconds * 1e3:.1f}"


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _columns(out: TextIO) -> int:
    try:
        return os.get_terminal_size(out.fileno()).columns or 80
    except OSError:
        return 80
