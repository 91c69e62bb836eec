"""Every `headrace` command in the documents has arguments that the command line takes."""

import re
import shlex

import pytest

from headrace.cli import main, service_commands
from headrace.cli.calls import commands as calls
from tests.support.processes import REPOSITORY

PAGES = [REPOSITORY / "README.md", REPOSITORY / "SECURITY.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
IN_COMPOSE = r"docker compose run --rm (?:-\S+ (?:\"\S+\" )?)*(?:trainer|gateway|operator) "
END = re.compile(r"\s(?:\||&&|;|>|2>&1|#)")
"""Beginning of what the shell makes of a line itself."""


def commands() -> list[str]:
    """Return the arguments of the commands in blocks of shell."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```sh\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
            for line in block.replace("\\\n", " ").splitlines():
                command = re.match(rf"(?:[A-Z_]+=\S+ )*(?:\.venv/bin/|{IN_COMPOSE})?headrace (.+)", line.lstrip())
                if command:
                    found.append(END.split(command[1])[0].strip())
    return found


@pytest.mark.parametrize("line", commands())
def test_a_command_of_the_documents_is_taken(line: str) -> None:
    words = shlex.split(line)
    # These have parsers of their own.
    if words[0] in service_commands.COMMANDS or words[0] in calls.SUMMARIES:
        words = words[:1]

    main.parser().parse_args(words)


def test_the_documents_have_commands() -> None:
    assert len(commands()) > 10
