"""`make audit`: known holes in what the locks pin, and a bill of materials for each image, in `.audit/`.

It needs the advisory database of pypi.org, so it is no part of `make test`; a package that could not be looked up is
never taken for a safe one.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from scripts.environment import EnvironmentFailed, create

ENVIRONMENT = Path(".venv-audit")
FOLDER = Path(".audit")
LOCKS = ("gateway", "worker", "exporter")
TOOLS = ("pip-audit>=2.10", "cyclonedx-bom>=7")
TIMEOUT_SECONDS = 15

HOLES = 1
NOT_LOOKED_UP = 3


def tool(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment."""
    command = [str(ENVIRONMENT / "bin" / name), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def prepare() -> None:
    """Make the environment of the tools: their dependencies have no place among the locked ones.

    Raises:
        EnvironmentFailed: if there can be none.
        subprocess.CalledProcessError: if they can't be installed.
    """
    if not (ENVIRONMENT / "bin" / "cyclonedx-py").exists():
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        subprocess.run([*create(ENVIRONMENT, sys.executable), *TOOLS], check=True)
    FOLDER.mkdir(exist_ok=True)


def findings(report: str) -> tuple[list[str], int, int]:
    """From a report of pip-audit: the holes as lines, and how many of how many packages could not be looked up."""
    try:
        packages: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError):
        return [], 1, 1
    holes = [
        f"{package['name']} {package['version']}: {hole['id']}, "
        f"fixed in {', '.join(hole['fix_versions']) or 'nothing yet'}"
        for package in packages
        for hole in package.get("vulns", [])
    ]
    return holes, sum("skip_reason" in package for package in packages), len(packages)


def audit(lock: str) -> int:
    """Look at one lock; the answer is an exit code."""
    path = f"requirements/{lock}.txt"
    options = ["--disable-pip", "--require-hashes", "--progress-spinner", "off", "--timeout", str(TIMEOUT_SECONDS)]
    report = tool("pip-audit", *options, "--format", "json", "--requirement", path)
    holes, missed, packages = findings(report.stdout)
    for hole in holes:
        print(f"{lock}: {hole}")
    if missed:
        print(f"{lock}: {missed} of {packages} packages could not be looked up: is pypi.org reached, and not a mirror?")
    else:
        print(f"{lock}: {len(holes)} known holes in {packages} packages")
    sbom = FOLDER / f"{lock}.cdx.json"
    made = tool("cyclonedx-py", "requirements", path, "--output-format", "JSON", "--output-file", str(sbom))
    print(f"{lock}: {sbom}" if made.returncode == 0 else f"{lock}: no bill of materials: {made.stderr.strip()[-500:]}")
    if holes or made.returncode:
        return HOLES
    return NOT_LOOKED_UP if missed else 0


def main() -> int:
    """Look at all of them."""
    try:
        prepare()
    except (EnvironmentFailed, subprocess.CalledProcessError, OSError) as error:
        print(f"millrace: the tools can't be installed: {error}", file=sys.stderr)
        return NOT_LOOKED_UP
    answers = [audit(lock) for lock in LOCKS]
    return HOLES if HOLES in answers else max(answers)


if __name__ == "__main__":
    raise SystemExit(main())
