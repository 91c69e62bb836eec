"""What came of the calls, as the client sees it."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable

OUTCOMES = ("ok", "invalid", "rejected", "timeout", "failed")
"""As the gateway counts them in `inference_requests_total`. Whoever hears nothing counts as failed, too."""

RECENT_SECONDS = 5.0
LATENCIES_KEPT = 20_000


def outcome_of(status: int) -> str:
    """The outcome that a status means."""
    if status < 400:
        return "ok"
    return {503: "rejected", 504: "timeout"}.get(status, "invalid" if status < 500 else "failed")


class Tally:
    """Counts of calls by kind and outcome, their latencies, and jobs."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self.jobs_open = 0
        self.jobs_ended: Counter[str] = Counter()
        self.held_back = 0
        """Calls that were due and not sent, since too many had no answer yet."""
        self._seconds: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=LATENCIES_KEPT))
        self._recent: deque[tuple[float, float | None]] = deque()

    def count(self, kind: str, outcome: str, at: float, seconds: float, *, typical: bool) -> None:
        """A call ended at that time; `typical` ones make the recent latencies."""
        self.calls[kind, outcome] += 1
        if outcome == "ok":
            self._seconds[kind].append(seconds)
        self._recent.append((at, seconds if outcome == "ok" and typical else None))

    def outcomes(self, kinds: Iterable[str] | None = None) -> dict[str, int]:
        """Outcome -> calls, of these kinds or of all."""
        wanted = None if kinds is None else set(kinds)
        totals = dict.fromkeys(OUTCOMES, 0)
        for (kind, outcome), count in self.calls.items():
            if wanted is None or kind in wanted:
                totals[outcome] += count
        return totals

    def latencies(self, kind: str) -> list[float]:
        """Seconds of its good answers, sorted."""
        return sorted(self._seconds[kind])

    def recent(self, now: float) -> tuple[float, list[float]]:
        """Calls per second of the last seconds, and the latencies of their typical good answers, sorted."""
        while self._recent and self._recent[0][0] < now - RECENT_SECONDS:
            self._recent.popleft()
        return len(self._recent) / RECENT_SECONDS, sorted(each for _, each in self._recent if each is not None)


def quantile(ordered: list[float], share: float) -> float | None:
    """A value that this share of them does not exceed; None of none."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
