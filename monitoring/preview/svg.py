"""The elements of a picture as text. Coordinates are pixels from the top left."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

SIZE = 12
"""Of texts, unless they say otherwise; the picture sets it once."""

FONT = "Inter, Roboto, 'Helvetica Neue', Arial, sans-serif"

_WIDTHS = {
    222: "ijl'",
    278: "ftI.,:;/!|[] ",
    340: 'r-(){}"·',
    500: "cksvxyzJ",
    584: "+=<>−~",
    611: "FTZ",
    667: "ABEKPSVXY",
    722: "wCDHNRU",
    778: "GOQ",
    833: "mM",
    889: "%",
    944: "W",
    1000: "…@—∞",
}
_EMS = {character: width / 1000 for width, characters in _WIDTHS.items() for character in characters}
"""Of Helvetica, from its font metrics; 0.556 for the others of the Latin alphabet."""


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """Its right side."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """Its lower side."""
        return self.y + self.height

    def inside(self, left: float = 0, top: float = 0, right: float = 0, bottom: float = 0) -> "Box":
        """What is left of it within margins."""
        return Box(
            self.x + left, self.y + top, max(0.0, self.width - left - right), max(0.0, self.height - top - bottom)
        )

    def at_bottom(self, height: float) -> "Box":
        """Its lower part."""
        return replace(self, y=self.bottom - height, height=height)


def number(value: float) -> str:
    """A coordinate, as short as it can be."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def text(
    x: float,
    y: float,
    content: str,
    colour: str,
    size: float = SIZE,
    anchor: str = "start",
    weight: int = 400,
    width: float | None = None,
    after: tuple[str, str] = ("", ""),
) -> str:
    """A line of text on the baseline `y`, cut to fit into `width`; `after` is (text, colour) behind it."""
    shown = content if width is None else cut(content, width, size, weight)
    more = f'<tspan dx="6" fill="{after[1]}">{escaped(after[0])}</tspan>' if after[0] else ""
    anchored = "" if anchor == "start" else f' text-anchor="{anchor}"'
    sized = "" if size == SIZE else f' font-size="{number(size)}"'
    heavy = "" if weight == 400 else f' font-weight="{weight}"'
    return (
        f'<text x="{number(x)}" y="{number(y)}" fill="{colour}"{sized}{anchored}{heavy}>{escaped(shown)}{more}</text>'
    )


def rect(box: Box, fill: str, stroke: str = "", radius: float = 0, opacity: float = 1) -> str:
    """A filled rectangle."""
    more = f' stroke="{stroke}"' if stroke else ""
    more += f' rx="{number(radius)}"' if radius else ""
    more += f' fill-opacity="{opacity:g}"' if opacity < 1 else ""
    return (
        f'<rect x="{number(box.x)}" y="{number(box.y)}" width="{number(box.width)}" height="{number(box.height)}" '
        f'fill="{fill}"{more}/>'
    )


def line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1, dashes: str = "") -> str:
    """A straight line."""
    more = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<path d="M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}" stroke="{colour}" '
        f'stroke-width="{width:g}"{more}/>'
    )


def path(data: str, stroke: str = "none", fill: str = "none", width: float = 1, opacity: float = 1) -> str:
    """A path; `opacity` is that of its inside."""
    more = f' stroke-width="{width:g}" stroke-linejoin="round"' if stroke != "none" else ""
    more += f' fill-opacity="{opacity:g}"' if opacity < 1 else ""
    return f'<path d="{data}" fill="{fill}" stroke="{stroke}"{more}/>'


def points(pairs: Sequence[tuple[float, float]], begin: str = "M") -> str:
    """Path data through some points, each written as its distance from the one before."""
    parts: list[str] = []
    at = (0.0, 0.0)
    for index, pair in enumerate(pairs):
        x, y = (round(each, 1) for each in pair)
        if index == 0:
            parts.append(f"{begin}{number(x)} {number(y)}")
        elif y == at[1]:
            parts.append(f"h{number(x - at[0])}")
        else:
            parts.append(f"l{number(x - at[0])} {number(y - at[1])}")
        at = (x, y)
    return "".join(parts)


def thinned(pairs: Sequence[tuple[float, float]], tolerance: float = 0.3) -> list[tuple[float, float]]:
    """Without the points that lie within `tolerance` pixels of the line through those that stay (Douglas and Peucker
    1973).
    """
    kept = [False] * len(pairs)
    spans = [(0, len(pairs) - 1)] if pairs else []
    while spans:
        first, last = spans.pop()
        kept[first] = kept[last] = True
        (x1, y1), (x2, y2) = pairs[first], pairs[last]
        length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5 or 1.0
        far, most = 0, tolerance
        for index in range(first + 1, last):
            x, y = pairs[index]
            distance = abs((x2 - x1) * (y1 - y) - (x1 - x) * (y2 - y1)) / length
            if distance > most:
                far, most = index, distance
        if far:
            spans += [(first, far), (far, last)]
    return [pair for pair, keep in zip(pairs, kept, strict=True) if keep]


def text_width(content: str, size: float, weight: int = 400) -> float:
    """How wide a line of text is about; fonts that a machine has instead may be somewhat wider."""
    ems = sum(_EMS.get(character, 0.556 if ord(character) < 0x2E80 else 1.0) for character in content)
    return ems * size * (1.07 if weight > 400 else 1.02)


def cut(content: str, width: float, size: float, weight: int = 400) -> str:
    """As much of a text as fits, with an ellipsis if that is not all."""
    if text_width(content, size, weight) <= width:
        return content
    shown = content
    while shown and text_width(shown + "…", size, weight) > width:
        shown = shown[:-1]
    return shown.rstrip() + "…"


def printable(content: str) -> str:
    """Without what XML can't hold, whatever a label says."""
    return "".join(c if c.isprintable() or c == " " else "�" for c in content)


def escaped(content: str) -> str:
    """A text between tags."""
    return escape(printable(content), quote=False)
