"""The fault matrix: the measurements of each row, as a table."""

import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path

HEADER = """# The fault matrix

Written by `make chaos`, which plays every fault on real processes: a broker, a gateway, workers, clients that keep a
ledger of their requests and answers, and a proxy that breaks the network. After every row one oracle checks the
invariants: every accepted job has exactly one outcome and can be looked up, every caller was answered by its deadline
plus 250 ms, every answer is the model's, every error is a problem+json that says when to retry, and no entry or job
is left in hand, open, queued or running. [guarantees.md](guarantees.md) says what is promised of that, and what is
not.

*T* is the bound of the row in seconds, *measured* the time until everything served again, or until the event that the
row names. The rows run with a hard time limit of 3 s, so with a lease of 8 s and a visibility timeout of 13 s (35 and
40 s with the default limits).
"""


@dataclass(frozen=True)
class Result:
    """The result of a row."""

    fault: str
    holds: str
    bound_seconds: float | None
    measured_seconds: float | None
    verdict: str
    note: str = ""

    def cells(self) -> list[str]:
        """Return the cells as text: fault, what holds, T, measured, verdict."""
        bound = "" if self.bound_seconds is None else f"{self.bound_seconds:g}"
        measured = "" if self.measured_seconds is None else f"{self.measured_seconds:.2f}"
        return [self.fault, self.holds, bound, measured, f"{self.verdict}: {self.note}" if self.note else self.verdict]


ON_ONE_MACHINE = "clients, broker, gateway and workers on the same machine."
TITLES = ["fault", "what holds", "T", "measured", "verdict"]


def markdown(results: list[Result], before: str = "") -> str:
    """Return the page. Rows of an earlier page that were not played now stay, in their places."""
    lines = _by_fault(line for line in before.splitlines() if line.startswith("| ") and line not in HEAD)
    lines |= _by_fault(_line(result.cells()) for result in results)
    table = "\n".join([*HEAD, *chain.from_iterable(lines.values())])
    machines = [line for line in before.splitlines() if line.endswith(ON_ONE_MACHINE) and line != _machine()]
    return f"{HEADER}\n{table}\n\n" + "\n\n".join([*machines, _machine()]) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _by_fault(lines: Iterable[str]) -> dict[str, list[str]]:
    """Group the lines of the table by fault; a fault that is played in several ways has a line for each."""
    found: dict[str, list[str]] = {}
    for line in lines:
        found.setdefault(line.removeprefix("| ").split(" | ")[0].split(": ")[0], []).append(line)
    return found


HEAD = [_line(TITLES), _line(["---", "---", "---:", "---:", "---"])]


def text(results: list[Result]) -> list[str]:
    """Return lines for a terminal: fault, T, measured, verdict."""
    width = max((len(result.fault) for result in results), default=0)
    lines = [f"{'fault':{width}}  {'T':>5}  {'measured':>8}  verdict"]
    for result in results:
        fault, _, bound, measured, verdict = result.cells()
        lines.append(f"{fault:{width}}  {bound:>5}  {measured:>8}  {verdict}")
    return lines


def write(path: Path, results: list[Result], whole: bool) -> None:
    """Write the page, or only the rows that were played."""
    before = "" if whole or not path.exists() else path.read_text(encoding="utf-8")
    path.write_text(markdown(results, before), encoding="utf-8")


def _machine() -> str:
    date = datetime.now(timezone.utc).date().isoformat()
    version = ".".join(map(str, sys.version_info[:3]))
    return (
        f"{date}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {version}; {ON_ONE_MACHINE}"
    )
