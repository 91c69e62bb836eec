"""`make test` tries once more, alone, what failed beside others, and hides no other failure."""

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts/test.sh"


@pytest.mark.parametrize(
    ("statuses", "arguments", "expected", "runs"),
    [
        ([0], [], 0, 1),
        ([1, 0], [], 0, 2),
        ([1, 1], [], 1, 2),
        ([1], ["-x"], 1, 1),
        ([2], [], 2, 1),
    ],
    ids=["green", "green alone", "failed twice", "arguments of the developer", "interrupted"],
)
def test_only_failed_tests_run_again(
    tmp_path: Path, statuses: list[int], arguments: list[str], expected: int, runs: int
) -> None:
    (tmp_path / "statuses").write_text("".join(f"{status}\n" for status in statuses))
    python = tmp_path / "python"
    python.write_text(
        f"""#!/bin/sh
        echo "$@" >>{tmp_path}/runs
        exit $(sed -n "$(wc -l <{tmp_path}/runs)p" {tmp_path}/statuses)
        """
    )
    python.chmod(0o755)

    ended = subprocess.run(
        ["sh", str(SCRIPT), str(python), *arguments], capture_output=True, text=True, timeout=60, check=False
    )

    lines = (tmp_path / "runs").read_text().splitlines()
    assert (ended.returncode, len(lines)) == (expected, runs)
    assert ("one by one" in ended.stderr) == (runs == 2)
    assert ["--last-failed" in line for line in lines] == [False, True][:runs]
