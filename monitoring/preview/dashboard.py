"""A dashboard as its JSON describes it: panels with their places, what they ask, and how it is to be shown."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True)
class Place:
    """In cells of the grid, which is 24 wide."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Target:
    """One query of a panel."""

    ref_id: str
    expr: str
    legend: str
    instant: bool
    form: str
    """`time_series`, `table` or `heatmap`."""
    interval_seconds: float
    """The smallest step, if it is not the data source's; else 0."""


@dataclass(frozen=True)
class Panel:
    """Something that shows data, or the headline of a row."""

    title: str
    kind: str
    place: Place
    targets: tuple[Target, ...]
    defaults: Mapping[str, Any]
    overrides: tuple[Mapping[str, Any], ...]
    options: Mapping[str, Any]
    transformations: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Variable:
    """What a person chooses at the top of the dashboard."""

    name: str
    label: str
    kind: str
    query: str
    current: tuple[str, ...]
    """Values that the file chooses; empty if it leaves that to Grafana."""
    several: bool
    all_value: str | None
    """Stands for all values together; empty if those are to be joined, None if there is no such choice."""
    hidden: bool


@dataclass(frozen=True)
class Annotation:
    """Moments that are marked in all charts."""

    name: str
    expr: str
    title: str
    text: str
    colour: str
    at_value: bool
    """Whether the value is the time of the event, in milliseconds since 1970."""


@dataclass(frozen=True)
class Dashboard:
    """A file of Grafana's classic format."""

    name: str
    """Of the file, without its ending."""
    title: str
    description: str
    range_seconds: float
    panels: tuple[Panel, ...]
    variables: tuple[Variable, ...]
    annotations: tuple[Annotation, ...]

    @property
    def height(self) -> int:
        """In cells of the grid."""
        return max((panel.place.y + panel.place.height for panel in self.panels), default=0)


def load(path: Path) -> Dashboard:
    """Read a file; rows that are collapsed are opened."""
    content = json.loads(path.read_text("utf-8"))
    listed = content.get("annotations", {}).get("list") or ()
    return Dashboard(
        name=path.stem,
        title=content["title"],
        description=content.get("description", ""),
        range_seconds=seconds_back(content["time"]["from"]),
        panels=tuple(_opened(content["panels"])),
        variables=tuple(_variable(each) for each in content.get("templating", {}).get("list", ())),
        annotations=tuple(_annotation(each) for each in listed if not each.get("builtIn") and each.get("enable", True)),
    )


def load_all(folder: Path) -> list[Dashboard]:
    """All of a folder, by name."""
    return [load(path) for path in sorted(folder.glob("*.json"))]


def duration_seconds(text: str) -> float:
    """Seconds of a duration such as `15m`.

    Raises:
        ValueError: if it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|[smhdw])", text)
    if not match or not float(match[1]):
        raise ValueError(f"{text!r} is no duration such as 15m")
    return float(match[1]) * SECONDS[match[2]]


def seconds_back(text: str) -> float:
    """How long before now `now-15m` is."""
    return duration_seconds(text.removeprefix("now-"))


def _opened(panels: list[dict[str, Any]]) -> Iterator[Panel]:
    """Panels from top to bottom; what a collapsed row hides moves in below it, and the rest down."""
    moved = 0
    for content in sorted(panels, key=lambda each: (each["gridPos"]["y"], each["gridPos"]["x"])):
        panel = _moved(_panel(content), moved)
        yield panel
        inside = [_panel(each) for each in content.get("panels") or ()]
        if inside:
            top, bottom = (min(p.place.y for p in inside), max(p.place.y + p.place.height for p in inside))
            yield from (_moved(each, panel.place.y + 1 - top) for each in inside)
            moved += bottom - top


def _moved(panel: Panel, rows: int) -> Panel:
    return replace(panel, place=replace(panel.place, y=panel.place.y + rows))


def _panel(content: Mapping[str, Any]) -> Panel:
    place, fields = content["gridPos"], content.get("fieldConfig", {})
    return Panel(
        title=content.get("title", ""),
        kind=content["type"],
        place=Place(place["x"], place["y"], place["w"], place["h"]),
        targets=tuple(_target(each) for each in content.get("targets", ()) if not each.get("hide")),
        defaults=fields.get("defaults", {}),
        overrides=tuple(fields.get("overrides", ())),
        options=content.get("options", {}),
        transformations=tuple(content.get("transformations") or ()),
    )


def _target(content: Mapping[str, Any]) -> Target:
    interval = content.get("interval") or ""
    return Target(
        ref_id=content["refId"],
        expr=content["expr"],
        legend=content.get("legendFormat", ""),
        instant=bool(content.get("instant")),
        form=content.get("format", "time_series"),
        interval_seconds=duration_seconds(interval) if interval else 0,
    )


def _variable(content: Mapping[str, Any]) -> Variable:
    query, current = content.get("query", ""), content.get("current", {}).get("value", ())
    return Variable(
        name=content["name"],
        label=content.get("label") or content["name"],
        kind=content["type"],
        query=query.get("query", "") if isinstance(query, dict) else str(query),
        current=tuple(map(str, current)) if isinstance(current, list) else (str(current),) * bool(current),
        several=bool(content.get("multi")),
        all_value=(content.get("allValue") or "") if content.get("includeAll") else None,
        hidden=content.get("hide", 0) == 2,
    )


def _annotation(content: Mapping[str, Any]) -> Annotation:
    return Annotation(
        name=content["name"],
        expr=content.get("expr") or content.get("target", {}).get("expr", ""),
        title=content.get("titleFormat", ""),
        text=content.get("textFormat", ""),
        colour=content.get("iconColor", "blue"),
        at_value=bool(content.get("useValueForTime")),
    )
