"""API keys as an operator makes them."""

import subprocess
import sys
from pathlib import Path

from tests.support.processes import REPOSITORY


def new_key(path: Path, owner: str, *options: str) -> dict[str, str]:
    """Append a key to a file, as the command does for an operator, and return the caller's header."""
    command = [sys.executable, "-m", "headrace", "new-key", owner, *options]
    made = subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY)
    with path.open("a") as file:
        file.write(made.stdout)
    return {"Authorization": f"Bearer {made.stderr.split()[-1]}"}
