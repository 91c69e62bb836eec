"""`python -m gateway.auth.new_key OWNER --scope predict`: make an API key.

The line for the key file goes to standard output, the key itself, which is stored nowhere, to standard error.
"""

import argparse
import sys
from collections.abc import Sequence

from gateway.auth.api_keys import KeyScope, digest_of, make_key, read_grants
from headrace.errors import HeadraceError


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a new key and its line."""
    parser = argparse.ArgumentParser(
        prog="python -m gateway.auth.new_key",
        description="Make an API key. Append what is printed to API_KEYS_FILE, which holds the key's hash only: "
        "python -m gateway.auth.new_key pricing --scope predict >> api-keys",
    )
    parser.add_argument("owner", help="whose key it is; jobs belong to an owner, who may have several keys")
    parser.add_argument(
        "--scope",
        action="append",
        required=True,
        choices=[scope.value for scope in KeyScope],
        help="what it is good for; may be given several times",
    )
    parser.add_argument("--rate", help="requests per second in each gateway process at most (default: no limit)")
    parser.add_argument(
        "--burst", help="requests at once that the rate may be exceeded by (default: those of a second)"
    )
    options = parser.parse_args(arguments)
    key = make_key()
    words = [options.owner, f"sha256:{digest_of(key.encode()).hex()}", ",".join(options.scope)]
    words += [f"{name}={value}" for name, value in (("rate", options.rate), ("burst", options.burst)) if value]
    try:
        # What is printed can be read: by the gateway's own rules.
        [grant] = read_grants(" ".join(words)).values()
    except HeadraceError as error:
        parser.error(str(error).removeprefix("line 1: "))
    print(f"The key of {grant.owner}, shown this once: {key}", file=sys.stderr)
    print(" ".join(words))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
