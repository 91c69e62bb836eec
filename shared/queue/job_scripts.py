"""The transitions of a job as Redis scripts, each atomic, from the files in `lua/`."""

from pathlib import Path

_FOLDER = Path(__file__).parent / "lua"


def script(name: str) -> str:
    """Return the source of a transition: `submit`, `start`, `claim`, `finish`, `cancel`, `release` or `reconcile`."""
    return (_FOLDER / "prelude.lua").read_text() + (_FOLDER / f"{name}.lua").read_text()
