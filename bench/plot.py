"""Latency against offered rate as an SVG file that needs nothing else: two logarithmic axes, a line per system."""

import math
from collections.abc import Sequence
from html import escape

from bench.open_loop import OpenFigures
from bench.results import Results

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 860, 470, 62, 40, 52, 200
RATES = (100, 30_000)
LATENCIES_SECONDS = (0.0005, 5.0)
COLOURS = ("#c1121f", "#0072b2", "#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#8c6d31", "#444444")
_RATE_TICKS = (100, 300, 1000, 3000, 10_000, 30_000)
_LATENCY_TICKS = (0.001, 0.01, 0.1, 1.0)

Point = tuple[float, float]


def svg(results: Results) -> str:
    """Return the plot: p99 (line) and p50 (dashes) of every measured system."""
    parts = [_axes()]
    for position, (name, figures) in enumerate(results.open.items()):
        colour = COLOURS[position % len(COLOURS)]
        answered = [run for run in figures if math.isfinite(run.p99_seconds)]
        parts.append(_line(answered, [run.p50_seconds for run in answered], colour, "4 4", 1.2))
        parts.append(_line(answered, [run.p99_seconds for run in answered], colour, "", 2.2))
        y = TOP + 14 + 22 * position
        parts.append(
            f'<line x1="{WIDTH - RIGHT + 18}" x2="{WIDTH - RIGHT + 40}" y1="{y}" y2="{y}" stroke="{colour}" '
            f'stroke-width="2.5"/>{_text(WIDTH - RIGHT + 46, y + 4, name, "start")}'
        )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="Latency against offered rate">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def _axes() -> str:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [_text(LEFT, 22, "Latency from the intended send time: p99 (line), p50 (dashes)", "start")]
    for rate in _RATE_TICKS:
        x = _x(rate)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}" stroke="#dddddd"/>')
        parts.append(_text(x, bottom + 18, f"{rate:,}", "middle"))
    for seconds in _LATENCY_TICKS:
        y = _y(seconds)
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dddddd"/>')
        parts.append(_text(LEFT - 8, y + 4, f"{seconds * 1e3:g} ms", "end"))
    parts.append(_text((LEFT + right) / 2, bottom + 40, "offered requests per second, one row each", "middle"))
    return "".join(parts)


def _line(runs: Sequence[OpenFigures], seconds: Sequence[float], colour: str, dashes: str, width: float) -> str:
    points = [(_x(run.offered), _y(value)) for run, value in zip(runs, seconds, strict=True)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "" if dashes else "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
        f'stroke-dasharray="{dashes}"/>{dots}'
    )


def _x(rate: float) -> float:
    return LEFT + (WIDTH - RIGHT - LEFT) * _share(rate, *RATES)


def _y(seconds: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * _share(seconds, *LATENCIES_SECONDS)


def _share(value: float, low: float, high: float) -> float:
    """Return the position of a value between two others on a logarithmic scale, limited to them."""
    return math.log(min(max(value, low), high) / low) / math.log(high / low)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#222222">{escape(text)}</text>'
