"""Texts and paths."""

from xml.etree import ElementTree

import pytest

from monitoring.preview import svg


@pytest.mark.parametrize(
    "hostile", ["</text><script>alert(1)</script>", "a & b < c > d", "\x00\x1b[31m", "\ud800", "]]>", "\"'", "\uffff"]
)
def test_whatever_a_label_says_the_picture_is_xml(hostile: str) -> None:
    element = ElementTree.fromstring(svg.text(0, 0, hostile, "#fff", after=(hostile, "#000")))
    assert element.tag == "text"
    assert [child.tag for child in element] == ["tspan"]
    assert element.text == svg.printable(hostile)


def test_a_text_is_cut_where_its_room_ends() -> None:
    shown = svg.cut("a long name of a series", 60, 12)
    assert shown.endswith("…")
    assert svg.text_width(shown, 12) <= 60
    assert svg.cut("short", 60, 12) == "short"
    assert svg.cut("no room", 0, 12) == "…"


def test_coordinates_are_short() -> None:
    assert [svg.number(value) for value in (3.0, 3.14, -0.01, 0.25)] == ["3", "3.1", "0", "0.2"]


def test_points_are_written_as_steps() -> None:
    assert svg.points([(1, 2), (4, 2), (6, 5.5)]) == "M1 2h3l2 3.5"
    assert svg.points([]) == ""


def test_steps_do_not_add_up_to_an_error() -> None:
    pairs = [(i / 3, 0.0) for i in range(300)]
    x = sum(float(step) for step in svg.points(pairs).removeprefix("M0 0").split("h")[1:])
    assert x == pytest.approx(pairs[-1][0], abs=0.1)


def test_points_on_a_line_are_left_out() -> None:
    line = [(float(x), 2.0 * x) for x in range(100)]
    assert svg.thinned(line) == [line[0], line[-1]]
    peak = [*line[:50], (50.0, 500.0), *line[51:]]
    assert (50.0, 500.0) in svg.thinned(peak)
    assert svg.thinned(line[:1]) == line[:1]
    assert svg.thinned([]) == []
