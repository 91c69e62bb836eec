"""The transitions of a job, and what reads and tidies their records, as atomic Redis scripts in `lua/`."""

from pathlib import Path

_FOLDER = Path(__file__).parent / "lua"

_PRELUDES = dict.fromkeys(("finish", "delete", "tidy"), ("prelude", "results"))
"""Files before the scripts that account for kept results; before the others there is only `prelude`."""


def script(name: str) -> str:
    """Return the source of a script, `lua/<name>.lua`: a transition, or `list` or `tidy`."""
    return "".join((_FOLDER / f"{part}.lua").read_text() for part in (*_PRELUDES.get(name, ("prelude",)), name))
