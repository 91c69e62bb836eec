"""An environment of its own for each peer, below `.bench/`, made when it is first needed.

`peers/NAME.txt` pins the peer and all that it needs; scikit-learn and its libraries are those of this environment,
since all systems load the same artifact. The pins were resolved on Python 3.11.
"""

import hashlib
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

from scripts.environment import EnvironmentFailed, base_python, create

FOLDER = Path(".bench")
PEERS = Path(__file__).with_name("peers")
STAMP = "made-from"
SHARED = ("scikit-learn", "numpy", "scipy", "joblib", "threadpoolctl")


def has_environment(name: str) -> bool:
    """Return True if the environment of a peer was made, of whatever pins."""
    return (FOLDER / name / STAMP).is_file()


def peer_python(name: str) -> str:
    """Return the interpreter of a peer's environment.

    Raises:
        EnvironmentFailed: If the environment can't be made, with the reason.
    """
    folder = (FOLDER / name).resolve()
    python = folder / "bin" / "python"
    pins = (PEERS / f"{name}.txt").read_text() + "".join(f"{library}=={version(library)}\n" for library in SHARED)
    wanted = hashlib.sha256(pins.encode()).hexdigest()
    stamp = folder / STAMP
    if stamp.is_file() and stamp.read_text() == wanted:
        return str(python)
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(exist_ok=True)
    (folder.parent / ".gitignore").write_text("*\n")
    requirements = folder.parent / f"{name}.txt"
    requirements.write_text(pins)
    install = [*create(folder, base_python()), "--requirement", str(requirements)]
    made = subprocess.run(install, capture_output=True, text=True, check=False)
    if made.returncode:
        reasons = [line for line in made.stderr.splitlines() if line.startswith("ERROR")] or made.stderr.splitlines()
        raise EnvironmentFailed(f"not installed: {reasons[-1] if reasons else 'pip failed'}")
    stamp.write_text(wanted)
    return str(python)
