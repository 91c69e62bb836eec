"""The results as Markdown: the figures of each system, and the targets that were met."""

from bench.comparison import CONNECTIONS
from bench.results import Results, median
from bench.systems import HEADRACE, SYSTEMS
from bench.targets import TARGETS

_MARKS = {"aim": "✓ aim", "met": "✓ met", "missed": "✗ missed", "not measured": "not measured"}


def markdown(results: Results) -> str:
    """Return all tables. Parts that were not measured are left out, and absent systems are named with the reason."""
    parts = [results.machine, _systems(results), _absent(results), _targets(results), _measures(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _systems(results: Results) -> str:
    lines = [
        (
            "| system | connections | requests/s | headrace is | p50 | p99 | errors "
            "| CPU s per 1,000 | memory (PSS) | others |"
        ),
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in SYSTEMS:
        for connections in CONNECTIONS:
            rounds = results.closed.get(name, {}).get(connections, [])
            if not rounds:
                continue
            rate, ours = results.rate(name, connections), results.rate(HEADRACE, connections)
            p50, p99 = results.p50_seconds(name, connections), results.p99_seconds(name, connections)
            cpu = median(run.cpu_seconds_per_1000 for run in rounds)
            memory = median(results.pss_bytes.get(name, []))
            ratio = f"{ours / rate:.2f}x" if rate and ours else ""
            lines.append(
                f"| {name} | {connections} | {rate or 0:,.0f} | {ratio} | {_ms(p50)} | {_ms(p99)} "
                f"| {sum(run.errors for run in rounds)} | {cpu or 0:.2f} | {(memory or 0) / 1e6:,.0f} MB "
                f"| {results.foreign_cores(name, connections) or 0:.2f} |"
            )
    lines += ["", "others: cores that other processes took in the worst round; above 0.1 it was disturbed."]
    return "\n".join(lines) if len(lines) > 4 else ""


def _absent(results: Results) -> str:
    return "\n".join(f"- {name}: absent, {reason}" for name, reason in results.absent.items())


def _targets(results: Results) -> str:
    lines = ["| measure | measured | at least | aim | |", "|---|--:|--:|--:|---|"]
    for target in TARGETS:
        value = target.figure(results)
        word = "" if target.more_is_better else "≤ "
        shown = "" if value is None else f"{value:.2f}{target.unit}"
        lines.append(
            f"| {target.measure} | {shown} | {word}{target.at_least:g}{target.unit} "
            f"| {word}{target.aim:g}{target.unit} | {_MARKS[target.verdict(results)]} |"
        )
    return "\n".join(lines)


def _measures(results: Results) -> str:
    if not results.measures:
        return ""
    lines = ["| figure | median | rounds |", "|---|--:|--:|"]
    for name, rounds in results.measures.items():
        lines.append(f"| `{name}` | {_figure(name, results.measure(name) or 0.0)} | {len(rounds)} |")
    return "\n".join(lines)


def _figure(name: str, value: float) -> str:
    if name.endswith("per_second"):
        return f"{value:,.0f}"
    if name.endswith("_share"):
        return f"{100 * value:.2f} %"
    if name.endswith("_ms"):
        return f"{value:.3g} ms"
    return f"{value / 1e6:,.3g} MB" if name.endswith("_bytes") else _ms(value)


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.2f} ms"
