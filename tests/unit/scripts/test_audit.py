"""`make audit` with a pip-audit that finds holes, finds none, or can't ask."""

import os
import subprocess
from pathlib import Path

import pytest

TOOL = """#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = --output ] && bill=$2; shift; done
case $FOUND in
    "can't ask") echo "ConnectionError: no answer" >&2; exit 1 ;;
    holes) [ -n "${bill:-}" ] && echo {} >"$bill" || echo "celery 1.0 PYSEC-1 2.0"; exit 1 ;;
    safe) echo {} >"$bill" ;;
esac
"""


@pytest.mark.parametrize(
    ("found", "by_hand", "in_ci", "strictly"), [("safe", 0, 0, 0), ("holes", 1, 0, 1), ("can't ask", 3, 0, 0)]
)
def test_in_ci_only_holes_fail_and_only_if_asked(
    tmp_path: Path, found: str, by_hand: int, in_ci: int, strictly: int
) -> None:
    tool, script = tmp_path / "pip-audit", tmp_path / "scripts" / "audit.sh"
    script.parent.mkdir()
    script.write_text(Path("scripts/audit.sh").read_text())
    tool.write_text(TOOL)
    tool.chmod(0o755)

    def run(strict: str, *options: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PIP_AUDIT": str(tool), "FOUND": found, "HEADRACE_AUDIT_STRICT": strict}
        command = ["sh", str(script), *options]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)

    assert [run("", "").returncode, run("", "--ci").returncode, run("1", "--ci").returncode] == [
        by_hand,
        in_ci,
        strictly,
    ]
    output = run("", "--ci").stdout
    assert ("celery 1.0 PYSEC-1 2.0" in output) is (found == "holes")
    assert ("skipped, the vulnerability service can't be asked: ConnectionError: no answer" in output) is (
        found == "can't ask"
    )
    assert ("WARNING" in output) is (found != "safe")
    assert (tmp_path / ".audit" / "worker.cdx.json").exists() is (found != "can't ask")
