"""Units, words and colours of a field; tables out of answers."""

import math
from typing import Any

import pytest

from monitoring.preview.answers import Answer, name_of
from monitoring.preview.colours import DARK, ink_on, mixed, named, ramp
from monitoring.preview.dashboard import Panel, Place, Target
from monitoring.preview.fields import Field, field_of
from monitoring.preview.frames import Unsupported, frame_of
from monitoring.preview.prometheus import Series

UP_OR_DOWN = {"type": "value", "options": {"0": {"text": "down", "color": "red"}, "1": {"text": "up"}}}
STEPS = {
    "steps": [{"value": None, "color": "green"}, {"value": 0.1, "color": "yellow"}, {"value": 0.25, "color": "red"}]
}


def panel(
    defaults: Any = None, overrides: Any = (), transformations: Any = (), targets: Any = (), **options: Any
) -> Panel:
    return Panel(
        title="Panel",
        kind="table",
        place=Place(0, 0, 8, 8),
        targets=tuple(targets),
        defaults=defaults or {},
        overrides=tuple(overrides),
        options=options,
        transformations=tuple(transformations),
    )


def target(ref_id: str, legend: str = "") -> Target:
    return Target(ref_id, "up", legend, instant=True, form="table", interval_seconds=0)


def answer(ref_id: str, value: float, **labels: str) -> Answer:
    return Answer("", ref_id, Series(labels, [0.0], [value]), Field({}, 0, DARK), 5)


def test_words_and_colours_of_values() -> None:
    field = field_of(panel({"mappings": [UP_OR_DOWN], "thresholds": STEPS, "noValue": "unknown"}), DARK, 0, "x")
    assert [field.write(value) for value in (0.0, 1.0, 2.0, None)] == ["down", "up", "2", "unknown"]
    assert field.colour_of(0.0) == named("red", DARK)
    assert [field.colour_of(value) for value in (1.0, 0.2, 0.05, math.nan, None)] == [
        named(colour, DARK) for colour in ("red", "yellow", "green", "green", "green")
    ]


def test_words_for_texts_ranges_and_what_is_not_there() -> None:
    mappings = [
        {"type": "value", "options": {"warning": {"text": "look", "color": "yellow"}}},
        {"type": "range", "options": {"from": 5, "to": None, "result": {"text": "many"}}},
        {"type": "special", "options": {"match": "null+nan", "result": {"text": "idle"}}},
    ]
    field = field_of(panel({"mappings": mappings}), DARK, 0, "x")
    assert [field.write(value) for value in ("warning", "other", 7.0, 4.0, math.nan, None)] == [
        "look",
        "other",
        "many",
        "4",
        "idle",
        "idle",
    ]
    assert field.colour_of("warning") == named("yellow", DARK)


def test_overrides_win_where_they_match() -> None:
    overrides = [
        {"matcher": {"id": "byName", "options": "a"}, "properties": [{"id": "unit", "value": "s"}]},
        {
            "matcher": {"id": "byRegexp", "options": "/^b/"},
            "properties": [{"id": "custom.fillOpacity", "value": 50}, {"id": "color", "value": _fixed("red")}],
        },
        {"matcher": {"id": "byFrameRefID", "options": "Z"}, "properties": [{"id": "decimals", "value": 0}]},
    ]
    described = panel({"unit": "none", "custom": {"fillOpacity": 8}}, overrides)
    assert field_of(described, DARK, 0, "a").write(2.5) == "2.50 s"
    b = field_of(described, DARK, 1, "b1")
    assert (b.write(2.5), b.custom["fillOpacity"], b.colour()) == ("2.50", 50, named("red", DARK))
    assert field_of(described, DARK, 1, "c", "Z").write(2.4) == "2"
    assert field_of(described, DARK, 1, "c").custom["fillOpacity"] == 8


def _fixed(colour: str) -> dict[str, str]:
    return {"mode": "fixed", "fixedColor": colour}


def test_colours() -> None:
    assert named("green", DARK) != named("super-light-green", DARK)
    assert named("#123456", DARK) == "#123456"
    assert named("nothing", DARK) == DARK.text
    assert mixed(("#000000", "#ffffff"), 0.5) == "#808080"
    assert len(set(ramp("Blues", 16, DARK))) == 16
    assert ink_on("#ffffff") != ink_on("#000000")


@pytest.mark.parametrize(
    ("labels", "legend", "name"),
    [
        ({"lane": "bulk"}, "{{lane}} tasks", "bulk tasks"),
        ({"lane": "bulk"}, "{{ lane }}{{target}} x", "bulk x"),
        ({"lane": "bulk"}, "__auto", "bulk"),
        ({"a": "1", "b": "2"}, "__auto", '{a="1", b="2"}'),
        ({"__name__": "up", "job": "x"}, "", 'up{job="x"}'),
        ({}, "__auto", "sum(up)"),
    ],
)
def test_the_name_of_a_series(labels: dict[str, str], legend: str, name: str) -> None:
    assert name_of(labels, target("A", legend), "sum(up)") == name


def test_rows_with_the_same_labels_become_one() -> None:
    steps = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True, "version": True},
                "indexByName": {"Value #B": 0, "Value #A": 1},
                "renameByName": {"Value #A": "now", "Value #B": "training"},
            },
        },
        {"id": "sortBy", "options": {"sort": [{"field": "now", "desc": True}]}},
    ]
    frame = frame_of(
        panel(transformations=steps, targets=[target("A"), target("B")]),
        [
            answer("A", 0.2, bin="00", version="v1"),
            answer("A", 0.8, bin="01", version="v1"),
            answer("B", 0.5, bin="00", version="v1"),
            answer("B", 0.4, bin="02", version="v1"),
        ],
    )
    assert frame.columns == ["training", "now", "bin"]
    assert [(row["bin"], row.get("now"), row.get("training")) for row in frame.rows] == [
        ("01", 0.8, None),
        ("00", 0.2, 0.5),
        ("02", None, 0.4),
    ]


def test_one_query_has_a_column_called_value_and_the_panel_sorts() -> None:
    described = panel(targets=[target("A")], sortBy=[{"displayName": "bin", "desc": False}])
    frame = frame_of(described, [answer("A", 1.0, bin=name) for name in ("10", "9", "other")])
    assert frame.columns == ["Time", "bin", "Value"]
    assert frame.column("bin") == ["9", "10", "other"]


def test_an_unknown_transformation_is_named() -> None:
    with pytest.raises(Unsupported, match="partitionByValues of Panel"):
        frame_of(panel(transformations=[{"id": "partitionByValues"}]), [])
