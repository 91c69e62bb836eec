"""`headrace new-key OWNER --scope predict`: make an API key.

The line for the key file goes to standard output; the key itself, which is stored nowhere, to standard error.
"""

import argparse
import sys
from collections.abc import Sequence

from gateway.auth.api_keys import KeyScope, digest_of, make_key, read_grants
from headrace.errors import HeadraceError


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a new key and its line.

    Args:
        arguments: the command line after `headrace new-key`; by default that of the process.

    Returns:
        The exit status.

    Raises:
        SystemExit: with status 2 if the arguments do not make a valid line.
    """
    parser = argparse.ArgumentParser(
        prog="headrace new-key",
        description="Make an API key. Append the printed line to API_KEYS_FILE; it holds only the key's hash: "
        "headrace new-key pricing --scope predict >> api-keys",
    )
    parser.add_argument("owner", help="owner of the key; jobs belong to an owner, and an owner may have several keys")
    parser.add_argument(
        "--scope",
        action="append",
        required=True,
        choices=[scope.value for scope in KeyScope],
        help="permission of the key; may be given several times",
    )
    parser.add_argument("--rate", help="requests per second, at most, in each gateway process (default: no limit)")
    parser.add_argument("--burst", help="requests allowed at once (default: as many as a second allows)")
    options = parser.parse_args(arguments)
    key = make_key()
    words = [options.owner, f"sha256:{digest_of(key.encode()).hex()}", ",".join(options.scope)]
    words += [f"{name}={value}" for name, value in (("rate", options.rate), ("burst", options.burst)) if value]
    try:
        # The gateway's own rules decide whether the line is valid.
        [grant] = read_grants(" ".join(words)).values()
    except HeadraceError as error:
        parser.error(str(error).removeprefix("line 1: "))
    print(f"The key of {grant.owner}, shown only this once: {key}", file=sys.stderr)
    print(" ".join(words))
    return 0
