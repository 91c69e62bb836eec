"""Commands in the documents: `headrace` takes their arguments, and `docker compose` has their services."""

import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest

from headrace.cli import main, service_commands
from headrace.cli.calls import commands as calls
from tests.architecture.test_compose import SERVICES
from tests.support.processes import REPOSITORY

PAGES = [REPOSITORY / "README.md", REPOSITORY / "SECURITY.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
IN_COMPOSE = r"docker compose run --rm (?:-\S+ (?:\"\S+\" )?)*(?:trainer|gateway|operator) "
RUNNING = {"exec", "run"}
"""Commands of Compose whose first word is a service, and the rest a command in it."""
OF_SERVICES = {"build", "logs", "ps", "restart", "stop", "up"}
OTHERS = {"config", "cp", "down"}
VALUED = {"-v", "--cap-add", "--entrypoint", "--profile", "--scale", "--since", "--tail", "--user", "--build-arg"}
"""Options of Compose in the documents that are followed by a value."""
END = re.compile(r"\s(?:\||&&|;|>|2>&1|#)")
"""Beginning of what the shell makes of a line itself."""


def lines() -> Iterator[str]:
    """Yield the lines in blocks of shell, continued ones joined."""
    for page in PAGES:
        for block in re.findall(r"^ *```sh\n(.*?)^ *```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
            yield from block.replace("\\\n", " ").splitlines()


def commands() -> list[str]:
    """Return the arguments of the commands in blocks of shell."""
    found = []
    for line in lines():
        command = re.match(rf"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/|{IN_COMPOSE})?headrace (.+)", line.lstrip())
        if command:
            found.append(END.split(command[1])[0].strip())
    return found


def compose_commands() -> list[str]:
    """Return the arguments of `docker compose`, without functions of the shell that take a service as their own."""
    found = [
        match for line in lines() for match in re.findall(r"docker compose ([^|;&)#>']+)", line) if "$1" not in line
    ]
    return [each.partition(" <")[0].strip() for each in found]


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_documents_is_taken(line: str) -> None:
    words = shlex.split(line)
    # These have parsers of their own.
    if words[0] in service_commands.COMMANDS or words[0] in calls.SUMMARIES:
        words = words[:1]

    main.parser().parse_args(words)


def test_the_documents_have_commands() -> None:
    assert len(commands()) > 10


def services_of(words: list[str]) -> list[str]:
    """Return the words that are neither options nor their values."""
    after_value = [False, *(word in VALUED for word in words)]
    return [word for word, is_value in zip(words, after_value, strict=False) if not (is_value or word.startswith("-"))]


@pytest.mark.parametrize("line", compose_commands())
def test_a_command_of_compose_has_a_service(line: str) -> None:
    verb, *names = services_of(shlex.split(line.replace('"$@"', "").rstrip("'\"")))

    assert verb in RUNNING | OF_SERVICES | OTHERS
    if verb in RUNNING:
        assert names[0] in SERVICES
    if verb in OF_SERVICES:
        assert set(names) <= SERVICES.keys()


def test_the_documents_have_commands_of_compose() -> None:
    assert len(compose_commands()) > 40


# A search of which something is made is played by the test of its page.
@pytest.mark.parametrize("line", [line for line in lines() if line.startswith("grep ") and "|" not in line])
def test_a_search_of_the_documents_finds_something(line: str) -> None:
    assert subprocess.run(["sh", "-c", line], cwd=REPOSITORY, capture_output=True, check=True, timeout=60).stdout
