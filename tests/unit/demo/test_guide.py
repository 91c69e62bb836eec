"""The times and the advice of the demo: what a person is told before and after, without a stack."""

import asyncio
import re
from typing import Any

import pytest

from demo.__main__ import parse
from demo.guide import ALERT_SECONDS, ENOUGH_MINUTES, EVALUATED_SECONDS, conclusion, introduction
from demo.report import Progress, Tally
from demo.rows import Model
from demo.traffic import Scenario
from monitoring.rules.drift import ALERT_AFTER
from monitoring.rules.slo import rules as slo_rules
from tests.support.processes import free_port

NOWHERE = f"http://127.0.0.1:{free_port()}"
MODEL = Model("iris", "v1", "", [], [])


def told(*arguments: str, drifting: str | None = "width") -> str:
    options = parse([*arguments, "--prometheus", NOWHERE, "--grafana", NOWHERE])
    scenario = Scenario(options.drift_after, options.bursts)
    return asyncio.run(introduction(options, MODEL, scenario, drifting))


def test_it_says_that_a_drift_alert_needs_ten_minutes() -> None:
    assert f"{ALERT_SECONDS / 60:g}m" == ALERT_AFTER
    text = told()
    assert "Alerts about drift need ten minutes" in text
    assert f"--minutes {ENOUGH_MINUTES}" in text
    assert "FeatureDrift" not in text


@pytest.mark.parametrize("arguments", [("--minutes", str(ENOUGH_MINUTES)), ("--seconds", "0")])
def test_a_run_that_is_long_enough_says_when_it_fires(arguments: tuple[str, ...]) -> None:
    text = told(*arguments)
    assert "this run ends before" not in text
    assert re.search(r"12:35  the alert FeatureDrift fires", text)
    assert Scenario.drift_after + ALERT_SECONDS + EVALUATED_SECONDS < ENOUGH_MINUTES * 60


def test_without_drift_it_says_nothing_of_it() -> None:
    assert "rift" not in told("--drift-by", "0", drifting=None)


def test_it_says_that_its_own_errors_may_raise_an_alert() -> None:
    burning = [rule["alert"] for group in slo_rules()["groups"] for rule in group["rules"] if "alert" in rule]
    [named] = re.findall(r"the alert (Headrace\w+) may fire", told())
    assert named in burning
    assert named not in told("--errors", "0", "--bursts", "0")


def test_minutes_are_a_duration() -> None:
    assert parse(["--minutes", "15"]).seconds == 900
    assert parse([]).seconds == 240
    with pytest.raises(SystemExit):
        parse(["--minutes", "15", "--seconds", "10"])


def test_the_end_says_where_to_look() -> None:
    options = parse(["--prometheus", NOWHERE, "--grafana", NOWHERE])
    text = asyncio.run(conclusion(options, MODEL, "width"))
    assert text.startswith("Look at:")
    assert NOWHERE in text


def test_the_line_of_progress_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    class Log:
        text = ""

        def write(self, text: str) -> None:
            self.text += text

        def isatty(self) -> bool:
            return False

        def flush(self) -> None: ...

    tally, log = Tally(), Log()
    tally.count("one row", 200, 0.0, 0.01, typical=True)
    tally.count("one row", 504, 0.0, 0.01, typical=True)
    out: Any = log
    Progress(out, tally, 240).show(35.0, "drift")
    assert log.text.startswith("0:35 of 4:00 drift")
    assert "| ok 1 timeout 1 | jobs 0 ended, 0 open" in log.text
