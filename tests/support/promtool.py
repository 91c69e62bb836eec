"""Unit tests of rules, run by promtool."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.requirements import require


def promtool() -> str:
    """Return the path of promtool."""
    found = shutil.which("promtool")
    require(found is not None, "promtool is not installed (Debian: package prometheus)")
    assert found is not None
    return found


def run_rules(
    folder: Path,
    rules: Sequence[Path],
    tests: Sequence[Mapping[str, Any]],
    evaluation: str = "1m",
    group_order: Sequence[str] = (),
) -> None:
    """Run promtool's unit tests of rules, written into `folder`. Without `group_order`, groups are evaluated in random
    order.

    Raises:
        AssertionError: With promtool's output, if a test fails.
    """
    file = folder / "tests.yml"
    content = {
        "rule_files": [str(path) for path in rules],
        "evaluation_interval": evaluation,
        "group_eval_order": list(group_order),
        "tests": list(tests),
    }
    # JSON is valid YAML.
    file.write_text(json.dumps(content))
    result = subprocess.run([promtool(), "test", "rules", file], capture_output=True, text=True, check=False)
    assert result.returncode == 0, (result.stdout + result.stderr)[:5000]
