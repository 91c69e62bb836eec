"""A whole picture from a Prometheus that says what the test wants."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from monitoring.preview.__main__ import main
from monitoring.preview.colours import DARK, LIGHT
from monitoring.preview.dashboard import Dashboard, Place, duration_seconds, load
from monitoring.preview.frames import Unsupported
from monitoring.preview.period import Period, choose, substitute
from monitoring.preview.picture import GAP, MARGIN, WIDTH, draw, place
from monitoring.preview.prometheus import Prometheus, Series
from tests.support.processes import free_port

START = 1_795_572_000.0
PERIOD = Period(START, START + 900)
HOSTILE = "</text><b>&\x00"


class FakePrometheus(Prometheus):
    """Answers a query by what it contains; each series is (labels, values over the whole period)."""

    def __init__(self, said: Mapping[str, Sequence[tuple[Mapping[str, str], Sequence[float]]]]) -> None:
        super().__init__("http://127.0.0.1")
        self._said = said
        self.asked: list[str] = []

    def _found(self, expr: str) -> list[tuple[Mapping[str, str], Sequence[float]]]:
        self.asked.append(expr)
        return [each for word, series in self._said.items() if word in expr for each in series]

    def range(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        return [
            Series(labels, [start + i * (end - start) / max(1, len(values) - 1) for i in range(len(values))], [*values])
            for labels, values in self._found(expr)
        ]

    def instant(self, expr: str, at: float) -> list[Series]:
        return [Series(labels, [at], [values[-1]]) for labels, values in self._found(expr)]

    def label_values(self, label: str, selector: str, start: float, end: float) -> list[str]:
        self.asked.append(selector)
        return ["age", "c.ty"] if label == "feature" else ["iris", "wine"]


def panel(kind: str, title: str, expr: str, x: int = 0, y: int = 0, **more: Any) -> dict[str, Any]:
    form = {"heatmap": "heatmap", "table": "table", "barchart": "table"}.get(kind, "time_series")
    instant = kind in ("stat", "table", "barchart")
    target = {"refId": "A", "expr": expr, "legendFormat": "{{name}}", "instant": instant, "format": form}
    return {
        "type": kind,
        "title": title,
        "gridPos": {"x": x, "y": y, "w": 8, "h": 8},
        "targets": [target],
        "fieldConfig": {"defaults": {"unit": "short", "noValue": "no traffic yet"}, "overrides": []},
        "options": {"xField": "name", "legend": {"calcs": ["lastNotNull"]}},
        **more,
    }


def dashboard(tmp_path: Path, *panels: dict[str, Any], **more: Any) -> Dashboard:
    path = tmp_path / "board.json"
    path.write_text(json.dumps({"title": "Board", "time": {"from": "now-15m"}, "panels": panels, **more}))
    return load(path)


def texts(picture: str) -> list[str]:
    return [text for element in ElementTree.fromstring(picture).iter() for text in [element.text] if text]


@pytest.mark.parametrize("kind", ["timeseries", "stat", "heatmap", "barchart", "table"])
@pytest.mark.parametrize("theme", [DARK, LIGHT])
def test_every_kind_shows_what_it_is_told(tmp_path: Path, kind: str, theme: Any) -> None:
    said = {"asked": [({"name": "alpha", "le": "0.5"}, [1.0, 2.0, 4.0]), ({"name": "beta", "le": "+Inf"}, [5.0] * 3)]}
    board = dashboard(tmp_path, panel(kind, "A title", "asked"))
    shown = texts(draw(board, FakePrometheus(said), PERIOD, theme))
    assert {"Board", "A title"} <= set(shown)
    assert "no traffic yet" not in shown
    if kind != "heatmap":
        assert {"4", "5"} <= set(shown)


@pytest.mark.parametrize("kind", ["timeseries", "stat", "heatmap", "barchart", "table"])
@pytest.mark.parametrize("values", [[math.nan], [math.nan, math.inf], [0.0], [-1.5, math.nan, -2.5], [1e300, -1e300]])
def test_odd_values_and_hostile_labels_are_drawn(tmp_path: Path, kind: str, values: list[float]) -> None:
    said = {"asked": [({"name": HOSTILE, "le": bound}, values) for bound in ("0.1", "+Inf")]}
    picture = draw(dashboard(tmp_path, panel(kind, HOSTILE, "asked")), FakePrometheus(said), PERIOD, DARK)
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(picture).iter()}
    assert tags <= {"svg", "title", "text", "tspan", "rect", "path", "g"}
    coordinates = re.findall(r'="([^"]*)"', picture)
    assert not any("nan" in each or "inf" in each or "e+" in each for each in coordinates)


@pytest.mark.parametrize("kind", ["timeseries", "stat", "heatmap", "barchart", "table"])
def test_without_data_a_panel_says_so(tmp_path: Path, kind: str) -> None:
    board = dashboard(tmp_path, panel(kind, "A title", "asked"))
    assert "no traffic yet" in texts(draw(board, FakePrometheus({}), PERIOD, DARK))


def test_a_gap_is_no_line(tmp_path: Path) -> None:
    board = dashboard(tmp_path, panel("timeseries", "Gaps", "asked"))
    lines = [
        draw(board, FakePrometheus({"asked": [({}, values)]}), PERIOD, DARK).count('stroke-width="1.4"')
        for values in ([1.0] * 181, [*[1.0] * 90, math.nan, *[1.0] * 90])
    ]
    assert lines == [1, 2]


def test_an_unknown_kind_is_named(tmp_path: Path) -> None:
    board = dashboard(tmp_path, panel("geomap", "Where", "asked"))
    with pytest.raises(Unsupported, match="Where: panels of the kind geomap"):
        draw(board, FakePrometheus({"asked": [({}, [1.0])]}), PERIOD, DARK)


def test_places_follow_the_grid() -> None:
    assert place(Place(0, 0, 24, 1)).width == WIDTH - 2 * MARGIN
    left, middle, right = (place(Place(x, 3, 8, 4)) for x in (0, 8, 16))
    assert left.x == MARGIN
    assert middle.x == pytest.approx(left.right + GAP)
    assert right.right == pytest.approx(WIDTH - MARGIN)
    assert place(Place(0, 7, 8, 4)).y == left.bottom + GAP


def test_collapsed_rows_are_opened(tmp_path: Path) -> None:
    row = {"type": "row", "title": "Row", "gridPos": {"x": 0, "y": 0, "w": 24, "h": 1}, "collapsed": True}
    board = dashboard(
        tmp_path,
        {**row, "panels": [panel("stat", "Inside", "asked", y=1)]},
        {**row, "title": "Next", "gridPos": {"x": 0, "y": 1, "w": 24, "h": 1}, "panels": []},
    )
    assert [(each.title, each.place.y) for each in board.panels] == [("Row", 0), ("Inside", 1), ("Next", 9)]
    assert board.height == 10


VARIABLES = {
    "list": [
        {"name": "model", "type": "query", "query": "label_values(up, model)", "multi": True, "includeAll": True}
        | {"allValue": ".*", "current": {"value": ["$__all"]}},
        {"name": "feature", "type": "query", "query": 'label_values(bins{model=~"$model"}, feature)'},
        {"name": "some", "type": "query", "query": "label_values(feature)", "multi": True, "includeAll": True},
        {"name": "window", "type": "custom", "query": "15m,1h,24h", "current": {"value": "1h"}},
    ]
}


def test_variables_get_what_grafana_chooses(tmp_path: Path) -> None:
    prometheus = FakePrometheus({})
    choices = choose(dashboard(tmp_path, templating=VARIABLES), prometheus, PERIOD)
    assert {name: choice.query for name, choice in choices.items()} == {
        "model": ".*",
        "feature": "age",
        "some": r"(age|c\\.ty)",
        "window": "1h",
    }
    assert [choice.shown for choice in choices.values()] == ["All", "age", "All", "1h"]
    assert prometheus.asked == ["up", 'bins{model=~".*"}', ""]


def test_queries_and_titles_get_their_values(tmp_path: Path) -> None:
    prometheus = FakePrometheus({})
    asked = panel("timeseries", "Values of $feature", 'rate(x{m=~"$model"}[$__rate_interval])[$__range:$window]')
    picture = draw(dashboard(tmp_path, asked, templating=VARIABLES), prometheus, PERIOD, DARK)
    assert prometheus.asked[-1] == 'rate(x{m=~".*"}[20s])[900s:1h]'
    assert "Values of age" in texts(picture)
    assert substitute("$unknown ${feature:regex}", {"feature": "age"}) == "$unknown age"


@pytest.mark.parametrize(
    ("seconds", "points", "step", "rate"), [(900, 160, 5, "20s"), (3600, 160, 20, "25s"), (86_400, 160, 600, "605s")]
)
def test_steps_are_those_of_grafana(seconds: float, points: int, step: float, rate: str) -> None:
    period = Period(START, START + seconds)
    assert period.step(points) == step
    assert period.variables(step)["__rate_interval"] == rate


def test_moments_are_marked_by_their_value_or_where_they_begin(tmp_path: Path) -> None:
    annotations = {
        "list": [
            {"name": "Loads", "expr": "loaded", "titleFormat": "{{model}} loaded", "useValueForTime": True},
            {"name": "Alerts", "expr": "firing", "titleFormat": "{{alertname}}"},
            {"name": "Old", "expr": "older", "titleFormat": "old", "useValueForTime": True},
            {"builtIn": 1, "name": "Annotations & Alerts"},
        ]
    }
    said: dict[str, list[tuple[dict[str, str], list[float]]]] = {
        "asked": [({}, [1.0, 2.0])],
        "loaded": [({"model": "iris"}, [(START + 300) * 1000] * 61)],
        "firing": [({"alertname": "Drift"}, [1.0] * 181)],
        "older": [({}, [(START - 300) * 1000] * 61)],
    }
    board = dashboard(tmp_path, panel("timeseries", "Lines", "asked"), annotations=annotations)
    shown = texts(draw(board, FakePrometheus(said), PERIOD, DARK))
    assert shown.count("iris loaded") == 1
    assert shown.count("Drift") == 1
    assert "old" not in shown


@pytest.mark.parametrize("text", ["", "15", "m", "0m", "-5m", "15 m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        duration_seconds(text)


def test_without_a_prometheus_it_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "images"
    assert main(["--url", f"http://127.0.0.1:{free_port()}", "--output", str(output)]) == 1
    said = capsys.readouterr().err
    assert "no Prometheus answers" in said and "make up" in said
    assert not output.exists()


def test_without_a_browser_there_is_no_png(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(["--png"]) == 1
    assert "chromium" in capsys.readouterr().err
