"""`make audit`: a bill of materials for each image, in `.audit/`, and known holes in what the locks pin.

The bills need no network. The holes need the advisory database of pypi.org, so they are no part of `make test`; a
package that could not be looked up is never taken for a safe one. CI asks too (`--ci`), but must fail neither because
that database is out of reach nor because of an advisory that appeared since the last change: there both are warnings.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scripts import sbom
from scripts.environment import EnvironmentFailed, create

ENVIRONMENT = Path(".venv-audit")
FOLDER = Path(".audit")
LOCKS = ("gateway", "worker", "exporter")
TOOL = "pip-audit>=2.10"
ADVISORIES = "https://pypi.org/pypi/pip/25.0/json"
"""What pip-audit asks for a package, for one that is always there."""

TIMEOUT_SECONDS = 15
REACH_SECONDS = 3
CI_SECONDS = 25
"""What all of it may take in CI."""

STRICT = "HEADRACE_AUDIT_STRICT"
"""Environment variable: at 1, known holes fail in CI too."""

HOLES = 1
NOT_LOOKED_UP = 3


def reachable() -> bool:
    """Whether the advisory database answers; a mirror of packages alone has none."""
    try:
        with urllib.request.urlopen(ADVISORIES, timeout=REACH_SECONDS) as answer:
            return "vulnerabilities" in json.load(answer)
    except (OSError, ValueError, TypeError):
        return False


def prepare(seconds: float) -> None:
    """Make the environment of pip-audit: its dependencies have no place among the locked ones.

    Raises:
        EnvironmentFailed: if there can be none.
        subprocess.SubprocessError: if it can't be installed, or not in so many seconds.
    """
    if not (ENVIRONMENT / "bin" / "pip-audit").exists():
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        subprocess.run([*create(ENVIRONMENT, sys.executable), TOOL], check=True, timeout=seconds)


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


def report_of(lock: str, seconds: float) -> str:
    """What pip-audit says of a lock; nothing if it does not say it in so many seconds."""
    options = ["--disable-pip", "--require-hashes", "--progress-spinner", "off", "--timeout", str(TIMEOUT_SECONDS)]
    command = [str(ENVIRONMENT / "bin" / "pip-audit"), *options, "--format", "json"]
    try:
        ran = subprocess.run(
            [*command, "--requirement", f"requirements/{lock}.txt"],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return ""
    return ran.stdout


def audit(seconds: float) -> int:
    """Look at all locks for known holes; the answer is an exit code."""
    until = time.monotonic() + seconds
    if not reachable():
        print("audit: skipped: the advisories of pypi.org can't be reached, so nothing is known of holes")
        return NOT_LOOKED_UP
    try:
        prepare(seconds)
    except (EnvironmentFailed, subprocess.SubprocessError, OSError) as error:
        print(f"audit: skipped: pip-audit can't be installed: {error}")
        return NOT_LOOKED_UP
    with ThreadPoolExecutor(len(LOCKS)) as pool:
        reports = pool.map(lambda lock: report_of(lock, max(1.0, until - time.monotonic())), LOCKS)
        return max(map(judge, LOCKS, reports), key=[0, NOT_LOOKED_UP, HOLES].index)


def judge(lock: str, report: str) -> int:
    """Say what was found in one lock; the answer is an exit code."""
    holes, missed, packages = findings(report)
    for hole in holes:
        print(f"{lock}: {hole}")
    if missed:
        print(f"{lock}: {missed} of {packages} packages could not be looked up: is pypi.org reached, and not a mirror?")
    else:
        print(f"{lock}: {len(holes)} known holes in {packages} packages")
    return HOLES if holes else NOT_LOOKED_UP if missed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the bills, and look for holes."""
    parser = argparse.ArgumentParser(prog="python -m scripts.audit", description=__doc__)
    parser.add_argument(
        "--ci", action="store_true", help=f"at most {CI_SECONDS} s; what is found is a warning, unless {STRICT}=1"
    )
    in_ci = parser.parse_args(arguments).ci
    for lock in LOCKS:
        print(f"{lock}: {sbom.write(lock, Path(f'requirements/{lock}.txt'), FOLDER)}")
    code = audit(CI_SECONDS if in_ci else 600)
    if not in_ci or (code == HOLES and os.environ.get(STRICT) == "1"):
        return code
    if code == HOLES:
        print(f"audit: WARNING: there are known holes, see above; {STRICT}=1 makes this a failure")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
