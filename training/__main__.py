"""`python -m training`: fits models and manages the versions in the model store."""

import argparse
import sys
from collections.abc import Sequence

from headrace.cli import store_commands
from headrace.errors import HeadraceError
from shared.observability.logs import set_up_logging
from shared.settings import CommonSettings, load_settings
from training import command as train_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; `arguments` default to those of the process. Returns its exit code."""
    settings = load_settings(CommonSettings)
    options = _parser(settings).parse_args(arguments)
    # Said before or after the command's name; argparse would let the command's default overwrite the former.
    options.store = getattr(options, "store", None) or options.main_store
    try:
        return int(options.run(options))
    except (HeadraceError, OSError) as error:
        print(f"headrace: {_reason(error)}", file=sys.stderr)
        return 1


def _parser(settings: CommonSettings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Fit models and write them into the model store; manage the versions in it. "
        f"Without a command: train the model that DEFAULT_MODEL names (now {settings.default_model}), "
        "a built-in data set.",
    )
    parser.add_argument(
        "--store",
        "--models-dir",
        default=settings.model_store,
        dest="main_store",
        metavar="STORE",
        help="the model store: a directory or URL (MODEL_STORE; now %(default)s)",
    )
    parser.add_argument("--version", metavar="V", help="name of the new version (default: the time in UTC)")
    parser.add_argument(
        "--if-missing",
        action="store_true",
        help="do nothing if the model is there and intact: version V, or else the one that is served",
    )
    parser.set_defaults(run=train_command.train_default, default_model=settings.default_model)
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    train_command.add_command(subparsers)
    store_commands.add_commands(subparsers)
    return parser


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def run() -> int:
    """The command as a process: what modules log and libraries warn of goes to stderr in one form."""
    settings = load_settings(CommonSettings)
    set_up_logging("training", settings.log_level, settings.log_format)
    return main()


if __name__ == "__main__":
    sys.exit(run())
