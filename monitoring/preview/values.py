"""Values as Grafana shows them: units, words, colours and thresholds."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from monitoring.preview.dashboard import Panel
from monitoring.preview.prometheus import PreviewError

PANEL_COLOUR, TEXT_COLOUR = "#181b1f", "#d5d6e0"
NAMED = {
    "green": "#3f8f4f",
    "yellow": "#d9a300",
    "orange": "#f2711c",
    "red": "#d6293e",
    "blue": "#5794f2",
    "purple": "#b877d9",
    "transparent": PANEL_COLOUR,
    "light-red": "#ff7383",
    "super-light-red": "#ffa6b0",
    "dark-red": "#c4162a",
    "light-orange": "#ffb357",
    "super-light-orange": "#ffcb7d",
    "dark-orange": "#fa6400",
    "light-yellow": "#ffee52",
    "dark-yellow": "#e0b400",
    "light-blue": "#8ab8ff",
    "dark-blue": "#1f60c4",
    "light-purple": "#ca95e5",
    "super-light-purple": "#deb6f2",
}
PALETTE = (
    "#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0", "#37872d", "#fade2a",
    "#447ebc", "#c15c17", "#890f02", "#0a437c", "#6d1f62", "#584477", "#b7dbab", "#f4d598", "#70dbed", "#f9ba8f",
    "#f29191", "#82b5d8", "#e5a8e2", "#aea2e0", "#629e51", "#e5ac0e", "#64b0c8", "#e0752d", "#bf1b00", "#0a50a1",
    "#962d82", "#614d93", "#9ac48a", "#f2c96d", "#65c5db", "#f9934e", "#ea6460", "#5195ce", "#d683ce", "#806eb7",
    "#3f6833", "#967302", "#2f575e", "#99440a", "#58140c", "#052b51", "#511749", "#3f2b5b", "#e0f9d7", "#fceaca",
    "#cffaff", "#f9e2d2", "#fce2de", "#badff4", "#f9d9f9", "#dedaf7",
)  # fmt: skip
"""Grafana's `palette-classic`."""

_RATES = {"ops": "ops/s", "reqps": "req/s", "rowsps": "rows/s"}
_SCALES: Mapping[str, tuple[int, Sequence[str]]] = {
    "bytes": (1024, (" B", " KiB", " MiB", " GiB", " TiB")),
    "short": (1000, ("", " K", " Mil", " Bil", " Tri")),
    **{unit: (1000, [f"{prefix} {name}" for prefix in ("", " K", " M", " B")]) for unit, name in _RATES.items()},
}
_TIMES = ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (120.0, 1, "s"), (7200.0, 1 / 60, "min"), (172_800.0, 1 / 3600, "h"))
"""Below so many seconds: the factor, and the unit."""


def write(value: float, unit: str = "none", decimals: int | None = None) -> str:
    """Write a number with its unit; without `decimals`, with three significant digits.

    Raises:
        PreviewError: if the unit is not known here.
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if unit == "dateTimeAsIso":
        return datetime.fromtimestamp(value / 1000, timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    if unit == "none":
        return _digits(value, decimals)
    if unit == "percentunit":
        return f"{_digits(value * 100, decimals)}%"
    if unit == "s":
        fitting = (each for each in _TIMES if abs(value) < each[0])
        _, factor, name = next(fitting, (math.inf, 1 / 86_400, "days")) if value else _TIMES[2]
        return f"{_digits(value * factor, decimals)} {name}"
    if unit not in _SCALES:
        raise PreviewError(f"the unit {unit} is not known here")
    base, suffixes = _SCALES[unit]
    power = min(len(suffixes) - 1, max(0, math.floor(math.log(abs(value) or 1, base) + 1e-9)))
    return _digits(value / base**power, decimals) + suffixes[power]


def _digits(value: float, decimals: int | None) -> str:
    if decimals is not None:
        return f"{value:.{decimals}f}"
    places = 0 if value == 0 else min(12, max(0, 2 - math.floor(math.log10(abs(value)))))
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def round_base(unit: str, most: float) -> float:
    """Return the number of which ticks are multiples: 1 GiB on an axis in GiB, a minute on one in minutes."""
    if unit == "bytes" and most >= 1:
        return float(1024 ** math.floor(math.log(most, 1024)))
    if unit == "s":
        return 86_400.0 if most >= 172_800 else 3600.0 if most >= 7200 else 60.0 if most >= 120 else 1.0
    return 1.0


@dataclass(frozen=True)
class Field:
    """The configuration of one series or column, the defaults with the overrides that match its name."""

    config: Mapping[str, Any]

    @classmethod
    def of(cls, panel: Panel, name: str) -> "Field":
        """Return the field of that name."""
        config = dict(panel.defaults)
        for override in panel.overrides:
            if override["matcher"]["options"] == name:
                config |= {each["id"]: each.get("value") for each in override["properties"]}
        return cls(config)

    @property
    def unit(self) -> str:
        """Grafana's name of the unit."""
        return str(self.config.get("unit") or "none")

    @property
    def thresholds(self) -> list[Mapping[str, Any]]:
        """Steps with a `value` and a `color`; the first has no value."""
        return (self.config.get("thresholds") or {}).get("steps") or [{"value": None, "color": "text"}]

    def write(self, value: float | str | None) -> str:
        """Write a value for people."""
        word = self._word(value).get("text")
        if word:
            return str(word)
        if value is None:
            return str(self.config.get("noValue") or "-")
        return value if isinstance(value, str) else write(value, self.unit, self.config.get("decimals"))

    def colour(self, value: float | str | None) -> str:
        """Return the colour of a value by mappings and thresholds."""
        chosen = "text"
        for step in self.thresholds:
            if step["value"] is None or (isinstance(value, float) and value >= step["value"]):
                chosen = step["color"]
        return named(self._word(value).get("color") or chosen)

    def _word(self, value: float | str | None) -> Mapping[str, Any]:
        key = f"{value:.12g}" if isinstance(value, float) else str(value)
        for mapping in self.config.get("mappings") or ():
            options = mapping["options"]
            if mapping["type"] == "regex":
                pattern, text = script_pattern(options["pattern"]), options["result"]["text"]
                if pattern.search(key):
                    return {"text": pattern.sub(script_template(text), key)}
            elif key in options:
                return dict(options[key])
        return {}

    def line_colour(self, name: str) -> str:
        """Return the colour of a series: its own, or the one that its name has everywhere."""
        fixed = (self.config.get("color") or {}).get("fixedColor")
        return named(fixed) if fixed else PALETTE[_hash(name) % len(PALETTE)]


def script_pattern(text: str) -> re.Pattern[str]:
    """Return a regular expression of JavaScript between its slashes; its flags say how often it is replaced."""
    return re.compile(text[1 : text.rindex("/")])


def script_template(text: str) -> str:
    """Return a replacement with groups as Python writes them."""
    return re.sub(r"\$(\d)", r"\\\1", text)


def _hash(text: str) -> int:
    """Return Grafana's hash of a name: that of Java's strings, without its sign."""
    value = 0
    for character in text:
        value = (value * 31 + ord(character)) & 0xFFFF_FFFF
    return abs(value - (1 << 32) if value & 0x8000_0000 else value)


def named(colour: str) -> str:
    """Return `#rrggbb` of a colour as dashboards write it."""
    return colour if re.fullmatch("#[0-9a-f]{6}", colour) else NAMED.get(colour, TEXT_COLOUR)


def finite(values: Sequence[float]) -> list[float]:
    """Return the values that are numbers."""
    return [value for value in values if math.isfinite(value)]
