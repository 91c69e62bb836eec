"""The transitions of a job, and what reads and tidies their records, as atomic Redis scripts in `lua/`."""

from pathlib import Path

_FOLDER = Path(__file__).parent / "lua"

PARTS = ("prelude", "damage", "transitions")
"""Files before every script."""

RESULTS = "results"
"""File that also stands before the scripts that account for kept results."""

_ACCOUNTANTS = ("finish", "delete", "tidy")


def script(name: str) -> str:
    """Return the source of a script, `lua/<name>.lua`: a transition, or `list`, `read` or `tidy`."""
    parts = (*PARTS, RESULTS, name) if name in _ACCOUNTANTS else (*PARTS, name)
    return "".join((_FOLDER / f"{part}.lua").read_text() for part in parts)
