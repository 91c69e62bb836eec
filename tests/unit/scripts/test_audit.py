import json

import pytest

from scripts.audit import findings

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
