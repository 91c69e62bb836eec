"""The commands that belong to the service, which a wheel of this project does not contain.

`headrace` imports no part of the service, so these commands are found by name when they run. The folder that contains
this package is, in a clone and in the images, the folder that contains the service's packages as well: it becomes the
first entry of `sys.path`, and the command's module is imported from there. Where the module's file is not in that
folder, as beside an installed wheel, the command is refused; a package of the same name elsewhere on `sys.path` is
never imported.
"""

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import HeadraceError
from headrace.extras import EXTRA_OF

FOLDER = Path(__file__).parents[2]
"""The folder that contains the package `headrace`."""


@dataclass(frozen=True)
class ServiceCommand:
    """A command of the service: `function` of `module` takes the arguments and returns the exit code."""

    module: str
    function: str
    summary: str
    container: str
    """The Compose service whose image contains the module."""


COMMANDS = {
    "train": ServiceCommand(
        "training.command", "run", "fit and evaluate a model on a data set, and add it to the store", "trainer"
    ),
    "new-key": ServiceCommand("gateway.auth.new_key", "main", "make an API key", "gateway"),
    "dead-letters": ServiceCommand(
        "gateway.broker.dead_letters", "main", "list, show, requeue or drop unreadable queue entries", "operator"
    ),
}


class NotHere(HeadraceError):
    """The service, or a library that it needs, is not installed where the command was called."""


def run(name: str, arguments: Sequence[str]) -> int:
    """Run a command of the service.

    Raises:
        NotHere: if its module or a library of the service is missing.
    """
    command = COMMANDS[name]
    if not FOLDER.joinpath(*command.module.split(".")).with_suffix(".py").is_file():
        raise _not_here(name, command)
    if sys.path[:1] != [str(FOLDER)]:
        sys.path.insert(0, str(FOLDER))
    try:
        function: Callable[[Sequence[str]], int] = getattr(importlib.import_module(command.module), command.function)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in EXTRA_OF:
            raise
        raise _not_here(name, command) from error
    return function(arguments)


def _not_here(name: str, command: ServiceCommand) -> NotHere:
    return NotHere(
        f"`headrace {name}` runs where the service is: in a clone after `make up` (.venv/bin/headrace {name} …) "
        f"or `docker compose run --rm {command.container} headrace {name} …`"
    )
