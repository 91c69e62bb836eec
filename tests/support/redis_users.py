"""The users of Redis as Compose defines them."""

import re
import subprocess
from pathlib import Path

import yaml

TESTER = "--user tester on nopass ~* &* +@all"
SINCE_7_2 = " +client|setinfo"
"""Commands by which clients describe themselves. A server that does not know one of them refuses to start."""


def redis_users(server: str) -> list[str]:
    """Return the users' options for a server; each password is the user's name."""
    text = (Path(__file__).parents[2] / "docker-compose.yml").read_text()
    services = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))["services"]
    return [known_to(server, option) for option in services["redis"]["command"] if option.startswith("--user ")]


def known_to(server: str, users: str) -> str:
    """Return definitions of users without the commands that a server is too old to know."""
    output = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"v=(\d+)\.(\d+)", output)
    assert version is not None, output
    old = (int(version[1]), int(version[2])) < (7, 2)
    return users.replace(SINCE_7_2, "") if old else users
