"""Inline SVG: no script, no files, colours from the CSS variables of the page."""

from collections.abc import Sequence
from html import escape

LABEL_CHARACTERS = 16


def short(value: float) -> str:
    """Format a number for people."""
    return f"{value:,.0f}" if 10_000 <= abs(value) < 1e9 else f"{value:.4g}"


def bars(labels: Sequence[str], shares: Sequence[float]) -> str:
    """Draw horizontal bars, one per label; `shares` are fractions of 1."""
    top = max([*shares, 1e-12])
    parts = []
    for i, (label, share) in enumerate(zip(labels, shares, strict=True)):
        y = 20 * i
        parts.append(
            f"<g><title>{escape(label)}: {share:.2%}</title>{text(100, y + 14, cut(label), 'end')}"
            f'<rect class="bar" x="108" y="{y + 3}" width="{max(1.0, 170 * share / top):.1f}" height="14" rx="2"/>'
            f"{text(114 + 170 * share / top, y + 14, f'{share:.1%}', 'start', 'muted')}</g>"
        )
    return svg(328, 20 * len(labels), "".join(parts), "Shares: " + ", ".join(labels[:10]))


def svg(width: float, height: float, content: str, label: str) -> str:
    """Return a drawing; `label` tells people who don't see it what it shows."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px" role="img" '
        f'aria-label="{escape(label)}">{content}</svg>'
    )


def text(x: float, y: float, content: str, anchor: str, classes: str = "") -> str:
    """Return a line of text."""
    kind = f' class="{classes}"' if classes else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(content)}</text>'


def turned(x: float, y: float, degrees: int, content: str, anchor: str, classes: str = "") -> str:
    """Return a line of text, turned about its anchor."""
    return f'<g transform="translate({x:.0f} {y:.0f}) rotate({degrees})">{text(0, 0, content, anchor, classes)}</g>'


def cut(content: str, characters: int = LABEL_CHARACTERS) -> str:
    """Return a text with at most so many characters."""
    return content if len(content) <= characters else content[: characters - 1] + "…"
