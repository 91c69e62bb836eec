"""The users of Redis as Compose makes them."""

import re
from pathlib import Path

import yaml

TESTER = "--user tester on nopass ~* &* +@all"


def redis_users() -> list[str]:
    """Their options for a server; each password is the user's name."""
    text = (Path(__file__).parents[2] / "docker-compose.yml").read_text()
    services = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))["services"]
    return [option for option in services["redis"]["command"] if option.startswith("--user ")]
