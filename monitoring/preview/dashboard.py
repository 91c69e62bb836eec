"""A dashboard as its JSON describes it: panels with their places, queries and options."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True)
class Target:
    """One query of a panel."""

    ref_id: str
    expr: str
    legend: str
    instant: bool
    interval_seconds: float
    """The smallest step if it is not the data source's; else 0."""


@dataclass(frozen=True)
class Panel:
    """A panel with data, or the headline of a row; its place is in cells of the grid, which is 24 wide."""

    title: str
    kind: str
    x: int
    y: int
    width: int
    height: int
    targets: tuple[Target, ...]
    defaults: Mapping[str, Any]
    overrides: tuple[Mapping[str, Any], ...]
    options: Mapping[str, Any]
    transformations: tuple[Mapping[str, Any], ...]
    repeat: str | None = None
    """The variable for each of whose values a row appears."""


@dataclass(frozen=True)
class Variable:
    """A choice at the top of the dashboard."""

    name: str
    kind: str
    query: str
    current: tuple[str, ...]
    """Values that the file chooses; empty if it leaves that to Grafana."""
    all_value: str | None
    """The stand-in for all values together; empty if they are to be joined, None if there is no such choice."""
    pattern: str = ""
    """The regular expression of JavaScript whose group is the value."""


@dataclass(frozen=True)
class Annotation:
    """Moments that are marked in all charts."""

    name: str
    expr: str
    text: str
    colour: str
    at_value: bool
    """True if the value is the time of the event, in milliseconds since 1970."""


@dataclass(frozen=True)
class Dashboard:
    """A file of Grafana's classic format; `name` is the file's, without its ending."""

    name: str
    title: str
    range_seconds: float
    panels: tuple[Panel, ...]
    variables: tuple[Variable, ...]
    annotations: tuple[Annotation, ...]


def load_all(folder: Path) -> list[Dashboard]:
    """Read the dashboards of a folder, sorted by name."""
    return [load(path) for path in sorted(folder.glob("*.json"))]


def load(path: Path) -> Dashboard:
    """Read a file; collapsed rows are opened."""
    content = json.loads(path.read_text("utf-8"))
    return Dashboard(
        name=path.stem,
        title=content["title"],
        range_seconds=duration_seconds(content["time"]["from"].removeprefix("now-")),
        panels=tuple(_opened(content["panels"])),
        variables=tuple(_variable(each) for each in content["templating"]["list"]),
        annotations=tuple(_annotation(each) for each in content["annotations"]["list"] if not each.get("builtIn")),
    )


def duration_seconds(text: str) -> float:
    """Return the seconds of a duration such as `15m`.

    Raises:
        ValueError: if it is none.
    """
    match = re.fullmatch(r"([1-9]\d*)([smhdw])", text)
    if not match:
        raise ValueError(f"{text!r} is no duration such as 15m")
    return float(match[1]) * SECONDS[match[2]]


def _opened(panels: list[dict[str, Any]]) -> Iterator[Panel]:
    """Yield panels from top to bottom; those of a collapsed row appear below it, and the rest moves down."""
    moved = 0
    for content in sorted(panels, key=lambda each: (each["gridPos"]["y"], each["gridPos"]["x"])):
        panel = _panel(content)
        panel = replace(panel, y=panel.y + moved)
        yield panel
        inside = [_panel(each) for each in content.get("panels") or ()]
        if inside:
            top, bottom = min(each.y for each in inside), max(each.y + each.height for each in inside)
            yield from (replace(each, y=panel.y + 1 + each.y - top) for each in inside)
            moved += bottom - top


def _panel(content: Mapping[str, Any]) -> Panel:
    place, fields = content["gridPos"], content.get("fieldConfig", {})
    return Panel(
        title=content.get("title", ""),
        kind=content["type"],
        x=place["x"],
        y=place["y"],
        width=place["w"],
        height=place["h"],
        targets=tuple(_target(each) for each in content.get("targets", ())),
        defaults=fields.get("defaults", {}),
        overrides=tuple(fields.get("overrides", ())),
        options=content.get("options", {}),
        transformations=tuple(content.get("transformations") or ()),
        repeat=content.get("repeat"),
    )


def _target(content: Mapping[str, Any]) -> Target:
    interval = content.get("interval") or ""
    seconds = duration_seconds(interval) if interval else 0
    return Target(
        content["refId"], content["expr"], content.get("legendFormat", ""), bool(content.get("instant")), seconds
    )


def _variable(content: Mapping[str, Any]) -> Variable:
    current = content.get("current", {}).get("value", ())
    return Variable(
        name=content["name"],
        kind=content["type"],
        query=content["query"],
        current=tuple(current) if isinstance(current, list) else (current,) * bool(current),
        all_value=(content.get("allValue") or "") if content.get("includeAll") else None,
        pattern=content.get("regex") or "",
    )


def _annotation(content: Mapping[str, Any]) -> Annotation:
    return Annotation(
        content["name"],
        content["expr"],
        content.get("titleFormat", ""),
        content.get("iconColor", "blue"),
        bool(content.get("useValueForTime")),
    )
