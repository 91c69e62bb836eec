import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from scripts import audit
from scripts.audit import findings
from tests.unit.scripts.conftest import Answer

SAFE = {"name": "redis", "version": "8.1.0", "vulns": []}
HOLE = {"id": "PYSEC-1", "fix_versions": ["2.0", "1.9.1"], "aliases": [], "description": ""}


def test_holes_are_told_with_what_fixes_them() -> None:
    report = json.dumps({"dependencies": [SAFE, {"name": "celery", "version": "1.0", "vulns": [HOLE]}], "fixes": []})

    assert findings(report) == (["celery 1.0: PYSEC-1, fixed in 2.0, 1.9.1"], 0, 2)


def test_a_package_that_was_not_looked_up_is_not_a_safe_one() -> None:
    skipped = {"name": "vine", "skip_reason": "Dependency not found on PyPI and could not be audited: vine (5.1.0)"}

    assert findings(json.dumps({"dependencies": [SAFE, skipped], "fixes": []})) == ([], 1, 2)


@pytest.mark.parametrize("report", ["", "ConnectionError", "{}"])
def test_no_report_is_no_good_report(report: str) -> None:
    holes, missed, packages = findings(report)

    assert holes == []
    assert missed == packages > 0


@pytest.fixture
def bills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the bills go."""
    monkeypatch.setattr(audit, "FOLDER", tmp_path / "audit")
    monkeypatch.delenv(audit.STRICT, raising=False)
    return tmp_path / "audit"


@pytest.mark.parametrize(
    ("answers", "installs", "report", "by_hand", "in_ci", "strictly"),
    [
        (True, True, {"dependencies": [SAFE]}, 0, 0, 0),
        (True, True, {"dependencies": [{**SAFE, "vulns": [HOLE]}]}, 1, 0, 1),
        (True, True, {"dependencies": [SAFE, {"name": "vine", "skip_reason": "x"}]}, 3, 0, 0),
        # It did not end in time.
        (True, True, None, 3, 0, 0),
        (True, False, None, 3, 0, 0),
        (False, True, None, 3, 0, 0),
    ],
    ids=["safe", "a hole", "one not looked up", "no report", "no tool", "out of reach"],
)
def test_in_ci_only_holes_fail_and_only_if_asked(
    bills: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answers: bool,
    installs: bool,
    report: dict[str, Any] | None,
    by_hand: int,
    in_ci: int,
    strictly: int,
) -> None:
    def prepare(seconds: float) -> None:
        if not installs:
            raise subprocess.TimeoutExpired("pip", seconds)

    # A hole in one lock is not hidden by what another one lacks.
    reports = {"gateway": json.dumps({"dependencies": [SAFE]}), "worker": json.dumps(report) if report else ""}
    monkeypatch.setattr(audit, "reachable", lambda: answers)
    monkeypatch.setattr(audit, "prepare", prepare)
    monkeypatch.setattr(audit, "report_of", lambda lock, seconds: reports.get(lock, reports["gateway"]))

    assert audit.main([]) == by_hand
    assert audit.main(["--ci"]) == in_ci
    said = capsys.readouterr().out
    assert ("WARNING: there are known holes" in said) == (by_hand == 1)
    assert ("skipped" in said) == (not answers or not installs)
    monkeypatch.setenv(audit.STRICT, "1")
    assert audit.main(["--ci"]) == strictly
    assert {path.name for path in bills.iterdir()} == {f"{lock}.cdx.json" for lock in audit.LOCKS}


@pytest.mark.parametrize(
    ("body", "reached"), [(b'{"vulnerabilities": []}', True), (b'{"info": {}}', False), (b"<html>", False)]
)
def test_a_mirror_without_advisories_is_not_the_database(
    fake_gateway: Answer, monkeypatch: pytest.MonkeyPatch, body: bytes, reached: bool
) -> None:
    fake_gateway.body = body
    monkeypatch.setattr(audit, "ADVISORIES", f"http://127.0.0.1:{fake_gateway.port}/pypi/pip/25.0/json")
    assert audit.reachable() == reached


def test_who_does_not_answer_is_out_of_reach(taken_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "ADVISORIES", f"http://127.0.0.1:{taken_port}/")
    monkeypatch.setattr(audit, "REACH_SECONDS", 0.1)
    assert not audit.reachable()
