import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench.open_loop import OpenFigures
from bench.plot import svg
from bench.report import markdown
from bench.results import Results, Round
from bench.systems import HEADRACE, MOSEC, PLAIN
from bench.targets import TARGETS, Target


def rounds(*rates: float, p50: float = 0.002, p99: float = 0.005) -> dict[int, list[Round]]:
    return {
        64: [
            Round(requests_per_second=rate, p50_seconds=p50, p99_seconds=p99, errors=0, cpu_seconds_per_1000=0.2)
            for rate in rates
        ]
    }


def target(words: str) -> Target:
    (found,) = [target for target in TARGETS if words in target.measure]
    return found


def test_a_ratio_is_of_medians_over_the_rounds() -> None:
    results = Results(closed={HEADRACE: rounds(9000, 8000, 100), PLAIN: rounds(1000, 2000, 4000)})
    rate = target("64 connections, requests/s of plain app, def")
    assert rate.figure(results) == 4
    assert rate.verdict(results) == "aim"


@pytest.mark.parametrize(("p99", "verdict"), [(0.003, "aim"), (0.007, "met"), (0.02, "missed")])
def test_less_is_better_where_it_is(p99: float, verdict: str) -> None:
    assert target("p99 of p50").verdict(Results(closed={HEADRACE: rounds(1, p99=p99)})) == verdict


def test_an_absent_peer_is_never_slow() -> None:
    results = Results(closed={HEADRACE: rounds(9000)}, absent={MOSEC: "not installed: no wheel"})
    assert target("64 connections, requests/s of mosec").verdict(results) == "not measured"
    text = markdown(results)
    assert "- mosec: absent, not installed: no wheel" in text
    assert "| mosec | 64" not in text


def test_costs_are_percent() -> None:
    results = Results()
    results.add({"metrics.with_per_second": 95.0, "metrics.without_per_second": 100.0})
    results.add({"forest.second_child_bytes": 10e6, "forest.model_bytes": 200e6})
    assert target("cost of all metrics").figure(results) == pytest.approx(5)
    assert target("second pool child adds").figure(results) == pytest.approx(5)


def test_results_are_kept_and_added_to(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "results.json"
    first = Results.read(file)
    first.add({"jobs.drained_per_second": 1.0})
    first.write(file)
    second = Results.read(file)
    second.add({"jobs.drained_per_second": 3.0})
    assert second.measure("jobs.drained_per_second") == 2
    assert "cores" in second.machine


def test_the_plot_is_an_image_with_every_system() -> None:
    figures = [
        OpenFigures(
            offered=rate, answered=rate, p50_seconds=0.001, p95_seconds=0.002, p99_seconds=p99,
            late_p99_seconds=0.0, errors=0,
        )
        for rate, p99 in ((100, 0.003), (1000, 0.004), (2000, float("inf")))
    ]  # fmt: skip
    image = ElementTree.fromstring(svg(Results(open={HEADRACE: figures, "<other>": []})))
    words = {element.text for element in image.iter("{http://www.w3.org/2000/svg}text")}
    assert {HEADRACE, "<other>"} <= words
    assert "inf" not in svg(Results(open={HEADRACE: figures}))
