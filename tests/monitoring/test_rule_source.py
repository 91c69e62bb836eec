"""The committed rules are what the source makes, and Prometheus accepts them."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from monitoring.rules import __main__ as command
from tests.support.promtool import promtool

RULES: list[dict[str, Any]] = [
    rule for make in command.FILES.values() for group in make()["groups"] for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]


def test_making_them_anew_changes_nothing() -> None:
    assert command.outdated() == [], "run: python -m monitoring.rules"


def test_the_folders_hold_nothing_else() -> None:
    assert {*command.FOLDER.iterdir(), *command.CHART_FOLDER.iterdir()} == set(command.render_all())


def test_check_finds_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    monkeypatch.setattr(command, "CHART_FOLDER", tmp_path)
    assert command.main(["--check"]) == 1
    assert "drift.yml" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert command.main([]) == 0
    assert command.main(["--check"]) == 0
    (tmp_path / "drift.yml").write_text("groups: []")
    assert command.main(["--check"]) == 1


def test_promtool_accepts_them() -> None:
    result = subprocess.run(
        [promtool(), "check", "rules", "--lint=all", "--lint-fatal", *command.render()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_recorded_names_say_level_metric_and_operations() -> None:
    for rule in RULES:
        if "record" in rule:
            assert re.fullmatch(r"[a-z_]+:[a-z_]+:[a-z0-9_]+", rule["record"]), rule["record"]


def test_no_two_rules_have_one_name() -> None:
    names = [(rule.get("record", rule.get("alert")), str(rule.get("labels"))) for rule in RULES]
    assert len(names) == len(set(names))


def test_an_alert_says_what_to_do() -> None:
    for rule in ALERTS:
        assert rule["for"] and rule["labels"]["severity"] in {"critical", "warning", "info"}, rule["alert"]
        assert all(rule["annotations"][key] for key in ("summary", "description", "runbook_url", "dashboard"))
