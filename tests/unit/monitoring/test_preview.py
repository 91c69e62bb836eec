"""A whole picture from a Prometheus that answers with what the test wants."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from monitoring.preview.__main__ import main
from monitoring.preview.charts import ticks
from monitoring.preview.dashboard import Dashboard, load
from monitoring.preview.page import draw
from monitoring.preview.prometheus import PreviewError, Prometheus, Series
from monitoring.preview.queries import Period, choose, substitute
from monitoring.preview.values import Field, write
from tests.support.processes import free_port

START = 1_795_572_000.0
PERIOD = Period(START, START + 900)
HOSTILE = '</text><b>&"'
KINDS = ["timeseries", "stat", "heatmap", "barchart", "table"]

Said = Mapping[str, Sequence[tuple[Mapping[str, str], Sequence[float]]]]
"""Part of a query -> labels and values over the whole period."""


class FakePrometheus(Prometheus):
    def __init__(self, said: Said) -> None:
        super().__init__("http://127.0.0.1")
        self._said = said

    def _found(self, expr: str) -> list[tuple[Mapping[str, str], Sequence[float]]]:
        return [each for word, series in self._said.items() if word in expr for each in series]

    def range(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        return [
            Series(labels, [start + i * (end - start) / max(1, len(values) - 1) for i in range(len(values))], [*values])
            for labels, values in self._found(expr)
        ]

    def instant(self, expr: str, at: float) -> list[Series]:
        return [Series(labels, [at], [values[-1]]) for labels, values in self._found(expr)]

    def label_values(self, label: str, selector: str, start: float, end: float) -> list[str]:
        return ["age", "c.ty"] if label == "feature" else ["iris", "wine"]


def panel(kind: str, title: str, expr: str, **more: Any) -> dict[str, Any]:
    instant = kind in ("stat", "table", "barchart")
    return {
        "type": kind,
        "title": title,
        "gridPos": {"x": 0, "y": 0, "w": 8, "h": 8},
        "targets": [{"refId": "A", "expr": expr, "legendFormat": "{{name}}", "instant": instant}],
        "fieldConfig": {"defaults": {"unit": "short", "noValue": "no traffic yet"}, "overrides": []},
        "options": {"xField": "name", "colorMode": "none", "textMode": "value_and_name"},
        **more,
    }


def dashboard(tmp_path: Path, *panels: dict[str, Any], variables: Sequence[dict[str, Any]] = ()) -> Dashboard:
    path = tmp_path / "board.json"
    lists = {"templating": {"list": variables}, "annotations": {"list": []}}
    path.write_text(json.dumps({"title": "Board", "time": {"from": "now-15m"}, "panels": panels, **lists}))
    return load(path)


def texts(picture: str) -> set[str]:
    return {text.strip() for text in ElementTree.fromstring(picture).itertext()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_shows_its_data(tmp_path: Path, kind: str) -> None:
    said = {"asked": [({"name": "alpha", "le": "0.5"}, [1.0, 2.0, 4.0]), ({"name": "beta", "le": "+Inf"}, [5.0] * 3)]}
    shown = texts(draw(dashboard(tmp_path, panel(kind, "A title", "asked")), FakePrometheus(said), PERIOD))
    assert {"Board", "A title"} <= shown
    assert "no traffic yet" not in shown
    assert shown >= ({"0.5", "∞"} if kind == "heatmap" else {"alpha", "beta"} if kind != "table" else {"4", "5"})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("values", [[math.nan], [math.nan, math.inf], [0.0], [-1.5, math.nan, -2.5], [1e300, -1e300]])
def test_odd_values_and_hostile_labels_are_drawn(tmp_path: Path, kind: str, values: list[float]) -> None:
    said = {"asked": [({"name": HOSTILE, "le": bound}, values) for bound in ("0.1", "+Inf")]}
    picture = draw(dashboard(tmp_path, panel(kind, HOSTILE, "asked")), FakePrometheus(said), PERIOD)
    assert HOSTILE in texts(picture)
    coordinates = re.findall(r' (?:d|x|y|width|height)="([^"]*)"', picture)
    assert not any("nan" in each or "inf" in each or "e+" in each for each in coordinates)


@pytest.mark.parametrize("kind", KINDS)
def test_a_panel_without_data_says_so(tmp_path: Path, kind: str) -> None:
    board = dashboard(tmp_path, panel(kind, "A title", "asked"))
    assert "no traffic yet" in texts(draw(board, FakePrometheus({}), PERIOD))


def test_a_gap_is_no_line(tmp_path: Path) -> None:
    board = dashboard(tmp_path, panel("timeseries", "Gaps", "asked"))
    lines = [
        draw(board, FakePrometheus({"asked": [({}, values)]}), PERIOD).count('stroke-linejoin="round"')
        for values in ([1.0] * 181, [*[1.0] * 90, math.nan, *[1.0] * 90])
    ]
    assert lines == [1, 2]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"type": "geomap"}, "Where: panels of the kind geomap"),
        ({"transformations": [{"id": "pivot"}]}, "the transformation pivot"),
        ({"fieldConfig": {"defaults": {"unit": "parsecs"}}}, "the unit parsecs"),
    ],
)
def test_an_unknown_option_is_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    board = dashboard(tmp_path, panel("table", "Where", "asked", **changed))
    with pytest.raises(PreviewError, match=message):
        draw(board, FakePrometheus({"asked": [({}, [1.0])]}), PERIOD)


def test_collapsed_rows_are_opened_and_the_rest_moves_down(tmp_path: Path) -> None:
    inside = panel("stat", "inside", "asked", gridPos={"x": 0, "y": 7, "w": 8, "h": 4})
    row = panel("row", "row", "", gridPos={"x": 0, "y": 0, "w": 24, "h": 1}, panels=[inside], targets=[])
    below = panel("stat", "below", "asked", gridPos={"x": 0, "y": 1, "w": 8, "h": 4})
    board = dashboard(tmp_path, row, below)
    assert [(each.title, each.y) for each in board.panels] == [("row", 0), ("inside", 1), ("below", 5)]


def test_variables_are_chosen_as_grafana_does(tmp_path: Path) -> None:
    query = {"type": "query", "query": "label_values(up, model)"}
    variables: list[dict[str, Any]] = [
        {"name": "model", **query},
        {"name": "version", **query, "includeAll": True, "current": {"value": ["$__all"]}},
        {"name": "feature", "type": "query", "query": 'label_values(up{model="$model"}, feature)', "includeAll": True},
        {"name": "window", "type": "custom", "query": "15m,1h", "current": {"value": "1h"}},
    ]
    chosen = choose(dashboard(tmp_path, variables=variables), FakePrometheus({}), PERIOD)
    assert [choice.shown for choice in chosen.values()] == ["iris", "All", "All", "1h"]
    assert chosen["feature"].query == r"age|c\.ty"
    assert substitute("$model ${window:raw} $other", {"model": "a", "window": "b"}) == "a b $other"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0213, "s", "21.3 ms"),
        (90.0, "s", "90 s"),
        (0.0, "s", "0 s"),
        (1536.0, "bytes", "1.5 KiB"),
        (0.995, "percentunit", "99.5%"),
        (12_300.0, "rowsps", "12.3 K rows/s"),
        (START * 1000, "dateTimeAsIso", "2026-11-25 02:00:00"),
        (math.nan, "short", "NaN"),
        (-math.inf, "none", "-∞"),
    ],
)
def test_units(value: float, unit: str, text: str) -> None:
    assert write(value, unit) == text


def test_words_and_colours_follow_mappings_and_thresholds() -> None:
    mappings = [{"type": "value", "options": {"1": {"text": "up", "color": "#00ff00"}}}]
    steps = [{"value": None, "color": "green"}, {"value": 2, "color": "red"}]
    field = Field({"mappings": mappings, "thresholds": {"steps": steps}})
    assert (field.write(1.0), field.colour(1.0), field.write(3.0)) == ("up", "#00ff00", "3")
    assert field.colour(0.0) != field.colour(2.0)


def test_ticks_are_round() -> None:
    assert ticks([0.3, 9.1], 5, "none") == [0, 2, 4, 6, 8, 10]
    assert ticks([3 * 2**30], 3, "bytes", 0.0) == [0, 2**30, 2 * 2**30, 3 * 2**30]
    assert ticks([], 5, "none") == [0, 0.2, 0.4, 0.6000000000000001, 0.8, 1]


def test_without_prometheus_it_says_how_to_start_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", f"http://127.0.0.1:{free_port()}", "--output", str(tmp_path / "images")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("headrace: no Prometheus answers")
    assert "make demo" in error
    assert not (tmp_path / "images").exists()


def test_a_series_has_the_colour_that_the_panel_or_its_name_says(tmp_path: Path) -> None:
    fixed = {"id": "color", "value": {"mode": "fixed", "fixedColor": "#123456"}}
    overrides = [{"matcher": {"id": "byName", "options": "alpha"}, "properties": [fixed]}]
    said = {"asked": [({"name": "alpha"}, [1.0]), ({"name": "beta"}, [1.0])], "again": [({"name": "beta"}, [1.0])]}

    def colours(expr: str) -> dict[str, str]:
        config = {"defaults": {"unit": "short"}, "overrides": overrides}
        picture = draw(
            dashboard(tmp_path, panel("timeseries", "A title", expr, fieldConfig=config)), FakePrometheus(said), PERIOD
        )
        return {name: colour for colour, name in re.findall(r'background:(#\w{6})"></u>(\w+)', picture)}

    assert colours("asked")["alpha"] == "#123456"
    assert colours("asked")["beta"] == colours("again")["beta"] != "#123456"


def test_a_repeated_row_appears_for_each_value_and_the_rest_moves_down(tmp_path: Path) -> None:
    places = [{"x": 0, "y": y, "w": 24, "h": h} for y, h in ((0, 1), (1, 8), (9, 1), (10, 8))]
    variable = {"name": "model", "type": "query", "query": "label_values(up, model)", "includeAll": True}
    board = dashboard(
        tmp_path,
        panel("row", "Model $model", "", gridPos=places[0], targets=[], repeat="model"),
        panel("stat", "inside", 'asked{model=~"$model"}', gridPos=places[1]),
        panel("row", "Below", "", gridPos=places[2], targets=[]),
        panel("stat", "last", "asked", gridPos=places[3]),
        variables=[variable],
    )
    said = {'model=~"iris"': [({"name": "of iris"}, [1.0])], 'model=~"wine"': [({"name": "of wine"}, [1.0])]}
    picture = draw(board, FakePrometheus(said), PERIOD)
    assert texts(picture) >= {"Model iris", "of iris", "Model wine", "of wine", "Below"}
    tops = [int(top) for top in re.findall(r"top:(\d+)px", picture)]
    assert tops == sorted(tops) and len(set(tops)) == len(tops) == 6

    # What does not fit is left out, and a headline without panels too.
    cut = draw(board, FakePrometheus(said), PERIOD, height_max=tops[-1])
    assert "last" not in texts(cut) and "Below" not in texts(cut) and "of wine" in texts(cut)


def test_a_variable_may_take_its_values_from_a_result(tmp_path: Path) -> None:
    variable = {
        "name": "feature",
        "type": "query",
        "query": "query_result(sort_desc(asked))",
        "regex": '/\\{feature="(.*)"\\}/',
    }
    said = {"asked": [({"feature": 'the "worst"'}, [2.0]), ({"feature": "age"}, [1.0])]}
    [choice] = choose(dashboard(tmp_path, variables=[variable]), FakePrometheus(said), PERIOD).values()
    assert choice.query == 'the "worst"'


def test_names_and_cells_are_changed_by_patterns(tmp_path: Path) -> None:
    rename = {"id": "renameByRegex", "options": {"regex": "/v(\\d)\\d*|x/g", "renamePattern": "$1"}}
    board = dashboard(tmp_path, panel("timeseries", "A title", "asked", transformations=[rename]))
    assert "2" in texts(draw(board, FakePrometheus({"asked": [({"name": "v25x"}, [1.0])]}), PERIOD))
    mapping = {"type": "regex", "options": {"pattern": "/v(\\d)\\d*/", "result": {"text": "$1"}}}
    field = Field({"mappings": [mapping]})
    assert (field.write("v25"), field.write("other")) == ("2", "other")
