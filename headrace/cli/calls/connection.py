"""The gateway that a call goes to: its address and API key, from options, the environment and profiles."""

import argparse
import os
from pathlib import Path

from headrace.cli.calls.outcomes import WrongArgument
from headrace.cli.calls.profiles import Profile, profile, read_bytes
from headrace.client.client import Client
from headrace.client.conversation import RETRIES

DEFAULT_URL = "http://127.0.0.1:8000"

KEY_BYTES_MAX = 4096

RETRIES_MAX = 100


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which gateway, and how to print its answers."""
    group = parser.add_argument_group("connection")
    group.add_argument("--url", help=f"address of the gateway (HEADRACE_URL, {DEFAULT_URL})")
    group.add_argument("--key-file", type=Path, metavar="FILE", help="file of the API key (HEADRACE_API_KEY: the key)")
    group.add_argument("--profile", metavar="NAME", help="url and key of profiles.toml (HEADRACE_PROFILE)")
    group.add_argument(
        "--retries",
        type=_retries,
        default=RETRIES,
        metavar="N",
        help="further tries of a request that is refused for overload or loses its connection (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON: a document, or a line for each row or job")


def connect(options: argparse.Namespace) -> Client:
    """Return a client for the gateway that options, environment and profile name, in this order; nothing is sent yet.

    Raises:
        WrongArgument: if a file can't be used, or a profile's key would go to another gateway than the profile's.
        ClientMisused: if the address is none, or the key can't be one.
    """
    name = options.profile or os.environ.get("HEADRACE_PROFILE")
    chosen = profile(name) if name else Profile()
    url = options.url or os.environ.get("HEADRACE_URL") or chosen.url or DEFAULT_URL
    key = _key_of(options.key_file) if options.key_file else os.environ.get("HEADRACE_API_KEY") or None
    if key is None:
        key = _key_of_profile(name, chosen, url)
    return Client(url, key=key, retries=options.retries)


def _key_of_profile(name: str | None, chosen: Profile, url: str) -> str | None:
    elsewhere = chosen.url is not None and chosen.url.rstrip("/") != url.rstrip("/")
    if elsewhere and (chosen.key or chosen.key_file):
        raise WrongArgument(
            f"the API key of profile {name!r} is for the profile's gateway, and --url or HEADRACE_URL names another: "
            "leave that out, or name a key (--key-file, HEADRACE_API_KEY)"
        )
    return _key_of(Path(chosen.key_file).expanduser()) if chosen.key_file else chosen.key


def _key_of(path: Path) -> str:
    try:
        key = read_bytes(path, KEY_BYTES_MAX).decode().strip()
    except UnicodeDecodeError:
        raise WrongArgument(f"{path} holds no API key") from None
    if not key:
        raise WrongArgument(f"{path} holds no API key: it is empty")
    return key


def _retries(text: str) -> int:
    number = int(text)
    if not 0 <= number <= RETRIES_MAX:
        raise argparse.ArgumentTypeError(f"0 to {RETRIES_MAX}")
    return number
