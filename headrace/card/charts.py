"""Charts of columns and predictions, as inline SVG."""

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from headrace.page.drawing import cut, short, svg, text, turned

HISTOGRAM_BARS_MAX = 30

SCATTER_POINTS_MAX = 500

Values = NDArray[np.float64]


def histogram(values: Values, cuts: Sequence[float] = ()) -> str:
    """Draw a histogram of `values`, shape (n,) with n > 0; ticks below the axis mark `cuts`."""
    edges = _histogram_edges(values)
    counts, _ = np.histogram(values, edges)
    low, width = float(edges[0]), float(edges[-1] - edges[0])
    parts = []
    for count, left, right in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if not count:
            continue
        x, height = 10.5 + 308 * (left - low) / width, max(1.0, 84 * count / counts.max())
        wide = 308 * (right - left) / width - 1
        parts.append(
            f'<rect class="bar" x="{x:.1f}" y="{88 - height:.1f}" width="{wide:.1f}" height="{height:.1f}">'
            f"<title>{short(left)} to {short(right)}: {count}</title></rect>"
        )
    for mark in cuts:
        x = min(max(308 * (mark - low) / width, 0), 308) + 10
        parts.append(f'<line class="cut" x1="{x:.1f}" x2="{x:.1f}" y1="89" y2="95"/>')
    parts.append('<line class="axis" x1="10" x2="318" y1="88.5" y2="88.5"/>')
    ends = [(10.0, values.min(), "start"), (318.0, values.max(), "end")]
    if values.min() == values.max():
        ends = [(164.0, values.min(), "middle")]
    parts += [text(x, 108, short(value), anchor, "muted") for x, value, anchor in ends]
    return svg(328, 112, "".join(parts), f"Histogram from {short(values.min())} to {short(values.max())}")


def confusion(labels: Sequence[str], counts: NDArray[np.int_]) -> str:
    """Draw a confusion matrix; `counts` has shape (n labels, n labels), with a row per true class."""
    n = len(labels)
    side = min(56, max(24, 420 // n))
    left, top = 110, 64
    parts = [
        text(left + n * side / 2, 12, "predicted", "middle", "muted"),
        turned(10, top + n * side / 2, -90, "true", "middle", "muted"),
    ]
    for i, label in enumerate(labels):
        at = i * side + side / 2
        parts.append(text(left - 8, top + at + 4, cut(label, 12), "end"))
        parts.append(turned(left + at + 4, top - 6, -35, cut(label, 9), "start"))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for row in range(n):
        for column in range(n):
            count, share = int(counts[row, column]), float(shares[row, column])
            x, y = left + column * side, top + row * side
            kind = "right" if row == column else "wrong"
            # Rare confusions must stay visible.
            strength = 0.12 + 0.88 * share if count else 0.0
            tone = "strong" if strength > 0.55 else ""
            parts.append(
                f"<g><title>{escape(labels[row])}, predicted {escape(labels[column])}: {count} ({share:.1%})</title>"
                f'<rect class="cell" x="{x}" y="{y}" width="{side - 2}" height="{side - 2}" rx="3"/>'
                f'<rect class="{kind}" x="{x}" y="{y}" width="{side - 2}" height="{side - 2}" rx="3" '
                f'fill-opacity="{strength:.2f}"/>'
                f"{text(x + side / 2 - 1, y + side / 2 + 3, str(count), 'middle', tone) if count else ''}</g>"
            )
    return svg(left + n * side + 40, top + n * side + 4, "".join(parts), "Confusion matrix")


def scatter(true: Values, predicted: Values) -> str:
    """Draw predictions over true values, with the line on which both agree."""
    chosen = np.unique(np.linspace(0, len(true) - 1, min(len(true), SCATTER_POINTS_MAX)).astype(int))
    low = float(min(true.min(), predicted.min()))
    width = float(max(true.max(), predicted.max())) - low or 1.0
    xs, ys = 40 + 270 * (true[chosen] - low) / width, 280 - 270 * (predicted[chosen] - low) / width
    points = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in zip(xs.tolist(), ys.tolist(), strict=True)
    )
    parts = [
        '<line class="axis" x1="40" x2="310" y1="280.5" y2="280.5"/>',
        '<line class="axis" x1="39.5" x2="39.5" y1="10" y2="280"/>',
        '<line class="ideal" x1="40" x2="310" y1="280" y2="10"/>',
        f'<g class="points">{points}</g>',
        text(40, 296, short(low), "middle", "muted"),
        text(310, 296, short(low + width), "end", "muted"),
        text(175, 296, "true", "middle", "muted"),
        turned(28, 145, -90, "predicted", "middle", "muted"),
    ]
    return svg(328, 302, "".join(parts), "Predicted over true values")


def _histogram_edges(values: Values) -> Values:
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.array([low - (abs(low) / 2 or 0.5), high + (abs(high) / 2 or 0.5)])
    if high - low < HISTOGRAM_BARS_MAX and bool((values == np.round(values)).all()):
        return np.arange(low - 0.5, high + 1.0)
    return np.linspace(low, high, min(HISTOGRAM_BARS_MAX, max(6, int(len(values) ** 0.5) + 1)) + 1)
