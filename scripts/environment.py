"""A virtual environment with what locks pin: extended when another lock is wanted, made anew when one has changed.

`python scripts/environment.py FOLDER LOCK...` runs on a bare Python 3.10, so: the standard library only.
"""

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUN_LOCK = ROOT / ".run" / "lock"
"""The file that a running `make up` holds."""
STAMP_FILE = "made-from"
STAMP_CODE = "import sys; print(sys.version.replace('\\n', ' '), sys.base_prefix)"
RUNTIME_LOCK = "runtime.txt"
"""Name of the lock whose environments get a `headrace` command."""

LAUNCHER = """#!{python}
import sys

sys.path.insert(0, {root!r})
from headrace.cli.main import main

sys.exit(main())
"""


class EnvironmentFailed(Exception):
    """The reason why there is no environment, in one line."""


def ensure(folder: Path, locks: Sequence[Path], python: str, in_use: bool = False) -> bool:
    """Make the environment with that Python, or install into it what it lacks.

    An environment `in_use` is extended, but not replaced: processes that run from it could not start others.

    Returns:
        False if it had all of the locks already.

    Raises:
        EnvironmentFailed: if it can't be made. A half-made one does not count as made.
    """
    # Two targets started at once, in two terminals, would otherwise build in the same folder.
    with locks[0].open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        identity = subprocess.run([python, "-c", STAMP_CODE], check=True, capture_output=True, text=True).stdout.strip()
        wanted = {identity, *(f"{lock.name} {hashlib.sha256(lock.read_bytes()).hexdigest()}" for lock in locks)}
        stamp = folder / STAMP_FILE
        there = set(stamp.read_text().splitlines()) if stamp.is_file() else set()
        if wanted <= there:
            return False
        extends = bool(there) and there <= wanted
        if in_use and folder.exists() and not extends:
            raise EnvironmentFailed(
                f"`make up` runs from {folder}, which {locks[0]} or the Python {python} does not fit: "
                "stop it first, or name the Python that it was started with (PYTHON=...)"
            )
        stamp.unlink(missing_ok=True)
        if extends:
            install = _installer(folder, python)
        else:
            shutil.rmtree(folder, ignore_errors=True)
            install = create(folder, python)
        _install(install, folder, locks)
        if any(lock.name == RUNTIME_LOCK for lock in locks):
            _write_launcher(folder)
        stamp.write_text("\n".join(sorted(wanted)) + "\n")
        return True


def create(folder: Path, python: str) -> list[str]:
    """Make an empty environment, and return the command that installs into it.

    Debian leaves `ensurepip` out of its Python (package python3-venv), and then `python -m venv` fails halfway.
    """
    if _has(python, "ensurepip"):
        command = [python, "-m", "venv", str(folder)]
    elif shutil.which("uv"):
        command = ["uv", "venv", "--quiet", "--seed", "--python", python, str(folder)]
    elif shutil.which("virtualenv"):
        command = ["virtualenv", "--quiet", "--python", python, str(folder)]
    elif _has(python, "pip"):
        command = [python, "-m", "venv", "--without-pip", str(folder)]
    else:
        raise EnvironmentFailed(
            f"{python} can't make virtual environments: apt install python3-venv (or have uv or virtualenv on PATH)"
        )
    if subprocess.run(command, check=False).returncode:
        raise EnvironmentFailed(f"`{' '.join(command)}` failed")
    (folder / ".gitignore").write_text("*\n")
    return _installer(folder, python)


def _installer(folder: Path, python: str) -> list[str]:
    """Return the pip command of an environment, which may have to be that of the Python below it."""
    inside = str(folder / "bin" / "python")
    pip = [inside, "-m", "pip"] if _has(inside, "pip") else [python, "-m", "pip", "--python", inside]
    return [*pip, "install", "--disable-pip-version-check", "--progress-bar", "off"]


def _install(install: Sequence[str], folder: Path, locks: Sequence[Path]) -> None:
    """Install locks, and show how far it is: a line that moves on a terminal, the first and the last one in a log."""
    started, names = time.monotonic(), " and ".join(map(str, locks))
    print(f"headrace: making {folder} from {names}", flush=True)
    # Markers leave some of the pins out, depending on the Python.
    pins = {name for lock in locks for name in re.findall(r"^([a-z0-9.-]+)==", lock.read_text(), re.MULTILINE)}
    requirements = [option for lock in locks for option in ("--requirement", str(lock))]
    with subprocess.Popen([*install, "--require-hashes", *requirements], stdout=subprocess.PIPE, text=True) as pip:
        assert pip.stdout is not None
        found = 0
        for line in pip.stdout:
            if match := re.match(r"(Collecting|Requirement already satisfied:) ([^=<>;@ ]+)", line):
                found += 1
                _show(f"  {found} of {len(pins)} packages: {match[2]}")
            elif line.startswith("Installing collected packages"):
                _show(f"  installing {line.count(',') + 1} packages")
    _show("")
    if pip.returncode:
        raise EnvironmentFailed(f"installing {names} into {folder} failed; pip says why above")
    print(f"headrace: {folder} is ready after {time.monotonic() - started:.0f} s", flush=True)


def _show(text: str) -> None:
    """Replace the line that moves."""
    if sys.stdout.isatty():
        print(f"\r{text[:78]}\x1b[K", end="", flush=True)


def _write_launcher(folder: Path) -> None:
    """Write the `headrace` command of a clone, whose package is not installed."""
    launcher = folder / "bin" / "headrace"
    launcher.write_text(LAUNCHER.format(python=folder.absolute() / "bin" / "python", root=str(ROOT)))
    launcher.chmod(0o755)


def _has(python: str, module: str) -> bool:
    return subprocess.run([python, "-c", f"import {module}"], check=False, capture_output=True).returncode == 0


def is_running() -> bool:
    """Return whether `make up` runs from this clone."""
    try:
        with RUN_LOCK.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def base_python() -> str:
    """Return the interpreter below the running one: an environment must not be made from the one that it replaces."""
    return str(getattr(sys, "_base_executable", sys.executable))


def main(arguments: list[str]) -> int:
    """Make the environment that the command line names."""
    folder, *locks = (Path(argument) for argument in arguments)
    try:
        ensure(folder, locks, base_python(), in_use=is_running())
    except EnvironmentFailed as error:
        print(f"headrace: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("headrace: stopped; the next call starts over", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
