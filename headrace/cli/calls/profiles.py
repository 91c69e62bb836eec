"""Profiles: names for gateways, with their addresses and API keys, in a TOML file.

`~/.config/headrace/profiles.toml`, in the folder of XDG_CONFIG_HOME if that is set, or the file of HEADRACE_PROFILES:

    [production]
    url = "https://models.example.org"
    key_file = "~/.config/headrace/production.key"     # or: key = "…", in a file that nobody else can read
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.cli.calls.outcomes import WrongArgument
from headrace.terminal import reason

FILE_BYTES_MAX = 1_000_000

MEMBERS = ("url", "key", "key_file")


@dataclass(frozen=True)
class Profile:
    """The settings for one gateway, each of which may be absent."""

    url: str | None = None
    key: str | None = None
    key_file: str | None = None


def profile(name: str) -> Profile:
    """Return a profile of the file.

    Raises:
        WrongArgument: if the file has none of this name, is damaged, or shows a key to others.
    """
    path = _path()
    document = _document(path)
    settings = document.get(name)
    if not isinstance(settings, dict):
        known = ", ".join(each for each, value in document.items() if isinstance(value, dict))
        raise WrongArgument(f"{path} has no profile {name!r}; it has {known or 'none'}")
    for member, value in settings.items():
        if member not in MEMBERS:
            raise WrongArgument(f"{path}: {name}: {member!r} is no setting: there are {', '.join(MEMBERS)}")
        if not isinstance(value, str) or not value:
            raise WrongArgument(f"{path}: {name}: {member} is no text")
    if "key" in settings and "key_file" in settings:
        raise WrongArgument(f"{path}: {name}: it has both key and key_file")
    if "key" in settings and os.name == "posix" and path.stat().st_mode & 0o077:
        raise WrongArgument(f"{path} has an API key and is open to others: chmod 600 {path}")
    return Profile(**settings)


def _path() -> Path:
    if path := os.environ.get("HEADRACE_PROFILES"):
        return Path(path).expanduser()
    config = os.environ.get("XDG_CONFIG_HOME", "")
    # The specification has relative paths ignored.
    folder = Path(config) if Path(config).is_absolute() else Path("~/.config").expanduser()
    return folder / "headrace" / "profiles.toml"


def _document(path: Path) -> dict[str, Any]:
    if sys.version_info < (3, 11):
        raise WrongArgument("profiles need Python 3.11 or newer; --url and --key-file do without")
    import tomllib

    try:
        content = read_bytes(path, FILE_BYTES_MAX)
        return tomllib.loads(content.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise WrongArgument(f"{path} is no TOML: {error}") from None


def read_bytes(path: Path, most: int) -> bytes:
    """Return the content of a file.

    Raises:
        WrongArgument: if it can't be read, or is larger than `most` bytes.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise WrongArgument(reason(error)) from None
    if len(content) > most:
        raise WrongArgument(f"{path} is larger than {most:,} bytes")
    return content
