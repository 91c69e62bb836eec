"""A virtual environment with exactly what a lock says; made anew when the lock or the Python changes.

`python scripts/environment.py FOLDER LOCK` runs on a bare Python 3.10, so: the standard library only.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

STAMP_FILE = "made-from"
STAMP_CODE = "import sys; print(sys.version, sys.base_prefix)"


class EnvironmentFailed(Exception):
    """Why there is no environment, in one line."""


def ensure(folder: Path, lock: Path, python: str) -> bool:
    """Make the environment with that Python unless it is there already; says whether it had to.

    Raises:
        EnvironmentFailed: if it can't be made. What is half made does not count as there.
    """
    # Two targets started at once, in two terminals, would otherwise build in the same folder.
    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        identity = subprocess.run([python, "-c", STAMP_CODE], check=True, capture_output=True, text=True).stdout
        wanted = identity + hashlib.sha256(file.read()).hexdigest() + "\n"
        stamp = folder / STAMP_FILE
        if stamp.is_file() and stamp.read_text() == wanted:
            return False
        print(f"headrace: making {folder} from {lock}", flush=True)
        if folder.exists():
            shutil.rmtree(folder)
        install = create(folder, python)
        if subprocess.run([*install, "--require-hashes", "--requirement", str(lock)], check=False).returncode:
            raise EnvironmentFailed(f"installing {lock} into {folder} failed; pip says why above")
        stamp.write_text(wanted)
        return True


def create(folder: Path, python: str) -> list[str]:
    """Make an empty environment; the answer is the command that installs into it.

    Debian leaves `ensurepip` out of its Python (package python3-venv), and then `python -m venv` fails halfway.
    """
    inside = str(folder / "bin" / "python")
    pip = [inside, "-m", "pip"]
    if _has(python, "ensurepip"):
        command = [python, "-m", "venv", str(folder)]
    elif shutil.which("uv"):
        command = ["uv", "venv", "--quiet", "--seed", "--python", python, str(folder)]
    elif shutil.which("virtualenv"):
        command = ["virtualenv", "--quiet", "--python", python, str(folder)]
    elif _has(python, "pip"):
        command = [python, "-m", "venv", "--without-pip", str(folder)]
        pip = [python, "-m", "pip", "--python", inside]
    else:
        raise EnvironmentFailed(
            f"{python} can't make virtual environments: apt install python3-venv (or have uv or virtualenv on PATH)"
        )
    if subprocess.run(command, check=False).returncode:
        raise EnvironmentFailed(f"`{' '.join(command)}` failed")
    (folder / ".gitignore").write_text("*\n")
    return [*pip, "install", "--quiet", "--disable-pip-version-check"]


def _has(python: str, module: str) -> bool:
    return subprocess.run([python, "-c", f"import {module}"], check=False, capture_output=True).returncode == 0


def base_python() -> str:
    """The interpreter below the running one: an environment must not be made from the one that it replaces."""
    return str(getattr(sys, "_base_executable", sys.executable))


def main(arguments: list[str]) -> int:
    """Make the environment that the command line names."""
    folder, lock = (Path(argument) for argument in arguments)
    try:
        ensure(folder, lock, base_python())
    except EnvironmentFailed as error:
        print(f"headrace: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("headrace: stopped; the next call starts over", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
