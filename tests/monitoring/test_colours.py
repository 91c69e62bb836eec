"""Colours by meaning: a name has one colour in all dashboards, and that of a known name says something."""

import re
from collections import defaultdict
from typing import Any

import pytest

from monitoring.dashboards.colours import CLOSED, COLOURS, OPEN, names
from tests.monitoring.queries import charts, load_dashboards

PANELS = [panel for board in load_dashboards().values() for panel in charts(board)]
WITH_LEGENDS = [panel for panel in PANELS if panel["type"] in {"timeseries", "barchart"}]
HUES = {
    "green": ["ok", "succeeded", "2xx"],
    "red": ["failed", "error", "timeout", "refused", "5xx", "prediction_failed", "worker_lost"],
    "yellow": ["invalid", "row_rejected", "too_large", "rate_limited", "4xx"],
    "orange": ["rejected", "overloaded", "queue_full"],
    "#": ["cancelled", "expired", "training"],
}

each_panel = pytest.mark.parametrize("panel", WITH_LEGENDS, ids=lambda panel: panel["title"])


def fixed_colours(panel: dict[str, Any]) -> dict[str, str]:
    """Return name -> colour of the series of a panel that have a fixed one."""
    found = {}
    for override in panel["fieldConfig"]["overrides"]:
        for setting in override["properties"]:
            if setting["id"] == "color":
                assert setting["value"]["mode"] == "fixed"
                found[override["matcher"]["options"]] = setting["value"]["fixedColor"]
    return found


@pytest.mark.parametrize(("hue", "name"), [(hue, name) for hue, members in HUES.items() for name in members])
def test_a_colour_says_how_it_went(hue: str, name: str) -> None:
    assert hue in COLOURS[name]


@each_panel
def test_every_name_that_is_known_has_its_colour(panel: dict[str, Any]) -> None:
    legends = [target["legendFormat"] for target in panel["targets"]]
    labels = set(re.findall(r"\{\{(\w+)\}\}", " ".join(legends)))
    assert labels <= OPEN | CLOSED.keys()
    for legend in legends:
        # An outcome beside a model or a version could have no colour of its own.
        of_legend = set(re.findall(r"\{\{(\w+)\}\}", legend))
        assert not (of_legend & OPEN and of_legend & CLOSED.keys() - {"lane"})
    expected = {name: COLOURS[name] for legend in legends for name in names(legend)}
    assert fixed_colours(panel) == expected


@each_panel
def test_other_names_get_a_colour_by_their_name(panel: dict[str, Any]) -> None:
    assert panel["fieldConfig"]["defaults"]["color"] == {"mode": "palette-classic-by-name"}


def test_a_name_has_one_colour_everywhere() -> None:
    colours: defaultdict[str, set[str]] = defaultdict(set)
    for panel in PANELS:
        for name, colour in fixed_colours(panel).items():
            colours[name].add(colour)
    assert len(colours) > 50
    assert {name: found for name, found in colours.items() if len(found) > 1} == {}


def test_no_colour_is_left_over() -> None:
    used = {name for panel in WITH_LEGENDS for name in fixed_colours(panel)}
    assert set(COLOURS) == used
