"""Grafana's colours: themes, names, the palette of series, and the ramps of heatmaps."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """What the page is painted with."""

    canvas: str
    panel: str
    border: str
    text: str
    muted: str
    grid: str
    is_dark: bool


DARK = Theme("#111217", "#181b1f", "#2c2f36", "#ccccdc", "#8e8f9d", "#2a2d33", True)
LIGHT = Theme("#f4f5f5", "#ffffff", "#dcdee0", "#24292e", "#6a7077", "#e7e8ea", False)
THEMES = {"dark": DARK, "light": LIGHT}

_NAMED = {
    "green": ("#37872d", "#56a64b", "#73bf69", "#96d98d", "#c8f2c2"),
    "yellow": ("#e0b400", "#f2cc0c", "#fade2a", "#ffee52", "#fff899"),
    "red": ("#c4162a", "#e02f44", "#f2495c", "#ff7383", "#ffa6b0"),
    "blue": ("#1f60c4", "#3274d9", "#5794f2", "#8ab8ff", "#c0d8ff"),
    "orange": ("#fa6400", "#ff780a", "#ff9830", "#ffb357", "#ffcb7d"),
    "purple": ("#8f3bb8", "#a352cc", "#b877d9", "#ca95e5", "#deb6f2"),
}
_SHADES = ("dark", "semi-dark", "", "light", "super-light")

PALETTE = (
    "#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0", "#37872d", "#fade2a",
    "#447ebc", "#c15c17", "#890f02", "#0a437c", "#6d1f62", "#584477", "#b7dbab", "#f4d598", "#70dbed", "#f9ba8f",
    "#f29191", "#82b5d8", "#e5a8e2", "#aea2e0",
)  # fmt: skip
"""`palette-classic`."""

_RAMPS = {
    "Blues": ("#08306b", "#2171b5", "#6baed6", "#c6dbef", "#f7fbff"),
    "Greens": ("#00441b", "#238b45", "#74c476", "#c7e9c0", "#f7fcf5"),
    "Oranges": ("#7f2704", "#d94801", "#fd8d3c", "#fdd0a2", "#fff5eb"),
    "Purples": ("#3f007d", "#6a51a3", "#9e9ac8", "#dadaeb", "#fcfbfd"),
    "Reds": ("#67000d", "#cb181d", "#fb6a4a", "#fcbba1", "#fff5f0"),
}


def named(colour: str, theme: Theme) -> str:
    """`#rrggbb` of a colour as dashboards write it: a name of Grafana's or a number."""
    shade, _, name = colour.rpartition("-")
    if name in _NAMED and shade in _SHADES:
        return _NAMED[name][_SHADES.index(shade)]
    if colour == "transparent":
        return theme.panel
    return colour if colour.startswith("#") else theme.text


def ramp(scheme: str, steps: int, theme: Theme) -> list[str]:
    """So many colours from few to many; few is near the background."""
    stops = _RAMPS.get(scheme, _RAMPS["Oranges"])
    # On white, the lightest could not be seen.
    ordered, first = (stops, 0.0) if theme.is_dark else (stops[::-1], 0.15)
    return [mixed(ordered, first + (1 - first) * step / max(1, steps - 1)) for step in range(steps)]


def mixed(stops: Sequence[str], share: float) -> str:
    """The colour at a share, from 0 to 1, of the way along the stops."""
    at = min(max(share, 0.0), 1.0) * (len(stops) - 1)
    left = min(int(at), len(stops) - 2)
    pairs = zip(_channels(stops[left]), _channels(stops[left + 1]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * (at - left)):02x}" for a, b in pairs)


def ink_on(background: str) -> str:
    """A colour for text that can be read there."""
    red, green, blue = _channels(background)
    return "#202226" if (red * 299 + green * 587 + blue * 114) / 1000 > 165 else "#f7f8fa"


def _channels(colour: str) -> tuple[int, int, int]:
    digits = colour.removeprefix("#")
    if len(digits) == 3:
        digits = "".join(digit * 2 for digit in digits)
    return int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)
