"""How a field of a panel is shown: unit, colour, words for values; the defaults with the overrides that match."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monitoring.preview.colours import PALETTE, Theme, named
from monitoring.preview.dashboard import Panel
from monitoring.preview.units import write


@dataclass(frozen=True)
class Word:
    """What a mapping makes of a value."""

    text: str
    colour: str | None


@dataclass(frozen=True)
class Field:
    """The configuration of one series or column, whose place in the panel is `index`."""

    config: Mapping[str, Any]
    index: int
    theme: Theme

    @property
    def custom(self) -> Mapping[str, Any]:
        """What only its kind of panel knows."""
        custom: Mapping[str, Any] = self.config.get("custom", {})
        return custom

    def write(self, value: float | str | None) -> str:
        """A value for people; None is what isn't there."""
        word = self._word(value)
        if word and word.text:
            return word.text
        if isinstance(value, str):
            return value
        if value is None or math.isnan(value):
            return str(self.config.get("noValue") or ("-" if value is None else "NaN"))
        return write(value, self.config.get("unit", "none"), self.config.get("decimals"))

    def colour_of(self, value: float | str | None) -> str:
        """The colour of a value by mappings and thresholds."""
        word = self._word(value)
        if word and word.colour:
            return named(word.colour, self.theme)
        chosen = "text"
        for step in self.thresholds():
            if step["value"] is None or (isinstance(value, float) and value >= step["value"]):
                chosen = step["color"]
        return named(chosen, self.theme)

    def colour(self) -> str:
        """The colour of the whole series."""
        mode = self.config.get("color", {})
        if mode.get("mode") in ("fixed", "shades"):
            return named(mode.get("fixedColor", "text"), self.theme)
        return PALETTE[self.index % len(PALETTE)]

    def thresholds(self) -> list[Mapping[str, Any]]:
        """Steps of (value, color), the first of which has no value."""
        return self.config.get("thresholds", {}).get("steps") or [{"value": None, "color": "green"}]

    def _word(self, value: float | str | None) -> Word | None:
        for mapping in self.config.get("mappings", ()):
            found = _matching(mapping["type"], mapping["options"], value)
            if found is not None:
                return Word(found.get("text", ""), found.get("color"))
        return None


def field_of(panel: Panel, theme: Theme, index: int, name: str, ref_id: str = "") -> Field:
    """The configuration of a series or column of a panel."""
    config: dict[str, Any] = {**panel.defaults, "custom": dict(panel.defaults.get("custom", {}))}
    for override in panel.overrides:
        if _is_meant(override["matcher"], name, ref_id):
            for each in override["properties"]:
                where, _, key = each["id"].rpartition("custom.")
                (config if where == "" and key == each["id"] else config["custom"])[key] = each.get("value")
    return Field(config, index, theme)


def _is_meant(matcher: Mapping[str, Any], name: str, ref_id: str) -> bool:
    wanted = matcher.get("options")
    if matcher["id"] == "byName":
        return bool(wanted == name)
    if matcher["id"] == "byRegexp":
        return re.search(str(wanted).strip("/"), name) is not None
    if matcher["id"] == "byFrameRefID":
        return bool(wanted == ref_id)
    return False


def _matching(kind: str, options: Mapping[str, Any], value: float | str | None) -> Mapping[str, Any] | None:
    """What a mapping has for a value."""
    if kind == "value" and value is not None:
        found: Mapping[str, Any] | None = options.get(value if isinstance(value, str) else f"{value:.12g}")
        return found
    if kind == "range" and isinstance(value, float):
        low, high = (options.get(end) for end in ("from", "to"))
        if (low is None or value >= low) and (high is None or value <= high):
            return options.get("result") or {}
    if kind == "special" and (value is None or value != value):
        match = options.get("match", "")
        if match == "null+nan" or match == ("null" if value is None else "nan"):
            return options.get("result") or {}
    return None
