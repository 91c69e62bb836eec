"""Counts of what became of the calls, a line of progress, and the summary at the end."""

import os
import time
from collections import Counter, defaultdict, deque
from typing import TextIO

OUTCOMES = ("ok", "invalid", "rejected", "timeout", "failed")
"""Outcomes as `inference_requests_total` has them; a call without an answer counts as failed, too."""

RECENT_SECONDS = 5.0
LATENCIES_KEPT = 20_000
TERMINAL_SECONDS = 0.5
LOG_SECONDS = 5.0


class Tally:
    """Counts of calls by kind and outcome, their latencies, and jobs."""

    def __init__(self) -> None:
        self.jobs_open = 0
        self.jobs_ended: Counter[str] = Counter()
        self.held_back = 0
        """Calls that were due and not sent, because too many had no answer yet."""
        self._calls: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._latencies: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=LATENCIES_KEPT))
        self._recent: deque[tuple[float, float | None]] = deque()

    def count(self, kind: str, status: int, at: float, seconds: float, *, typical: bool) -> None:
        """Count a call that ended at that time, with status 0 if no answer came; typical ones make recent latencies."""
        outcome = {0: "failed", 503: "rejected", 504: "timeout"}.get(
            status, "ok" if status < 400 else "invalid" if status < 500 else "failed"
        )
        self._calls[kind][outcome] += 1
        if outcome == "ok":
            self._latencies[kind].append(seconds)
        self._recent.append((at, seconds if outcome == "ok" and typical else None))

    def line(self, now: float) -> str:
        """Return rate and latencies of the last seconds, and totals; `now` is a time of `time.perf_counter`."""
        while self._recent and self._recent[0][0] < now - RECENT_SECONDS:
            self._recent.popleft()
        latencies = sorted(seconds for _, seconds in self._recent if seconds is not None)
        totals = sum(self._calls.values(), Counter[str]())
        p50, p95 = _quantile(latencies, 0.5), _quantile(latencies, 0.95)
        rate = f"{len(self._recent) / RECENT_SECONDS:4.0f}/s p50 {p50} p95 {p95} ms"
        counts = " ".join(f"{outcome} {totals[outcome]}" for outcome in OUTCOMES if totals[outcome])
        return f"{rate} | {counts or 'no answer yet'} | jobs {self.jobs_ended.total()} ended, {self.jobs_open} open"

    def summary(self) -> str:
        """Return a table with a line for each kind of call."""
        lines = [f"{'':16}" + "".join(f"{name:>10}" for name in (*OUTCOMES, "p50 ms", "p95 ms"))]
        for kind, counts in self._calls.items():
            ordered = sorted(self._latencies[kind])
            cells = [counts[outcome] or "" for outcome in OUTCOMES]
            cells += [_quantile(ordered, 0.5), _quantile(ordered, 0.95)]
            lines.append(f"{kind:16}" + "".join(f"{cell:>10}" for cell in cells))
        ended = ", ".join(f"{count} {end}" for end, count in sorted(self.jobs_ended.items()))
        lines.append(f"jobs: {ended or 'none ended'}" + (f", {self.jobs_open} still open" if self.jobs_open else ""))
        if self.held_back:
            lines.append(f"{self.held_back} calls were due and not sent: too many had no answer yet")
        return "\n".join(lines)


def _quantile(ordered: list[float], share: float) -> str:
    """Return the milliseconds that this share of the seconds does not exceed."""
    return f"{ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e3:.1f}" if ordered else "-"


class Progress:
    """The tally's line on a stream: rewritten in place on a terminal, every few seconds in a log."""

    def __init__(self, out: TextIO, tally: Tally, seconds: float) -> None:
        """`seconds` is the duration, 0 if there is no end."""
        self._out = out
        self._of = f" of {clock(seconds)}" if seconds else ""
        self._tally = tally
        self._in_place = out.isatty()
        self.every_seconds = TERMINAL_SECONDS if self._in_place else LOG_SECONDS

    def show(self, elapsed: float, phase: str) -> None:
        """Write the line now."""
        line = f"{clock(elapsed)}{self._of} {phase:<6} {self._tally.line(time.perf_counter())}"
        if self._in_place:
            # A line that wraps could not be rewritten.
            self._out.write(f"\r{line[: _columns(self._out) - 1]}\x1b[K")
        else:
            self._out.write(f"{line}\n")
        self._out.flush()

    def leave(self) -> None:
        """Let the next output begin below the line."""
        if self._in_place:
            self._out.write("\n")


def clock(seconds: float) -> str:
    """Return minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _columns(out: TextIO) -> int:
    try:
        return os.get_terminal_size(out.fileno()).columns or 80
    except OSError:
        return 80
