"""`headrace dead-letters`: list, show, requeue and drop queue entries that no worker understood."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from urllib.parse import urlsplit

import redis

from headrace.terminal import one_line
from shared.master import connect
from shared.queue import keys
from shared.queue.contract import is_queue
from shared.queue.dead_letters import DeadLetter, read
from shared.settings import CommonSettings, load_settings

DESCRIPTION = "List, show, requeue and drop queue entries that no worker understood, and damaged data."
TIMEOUT_SECONDS = 5.0

UNREADABLE = "?"
"""Id of all dead letters of an unknown format; they can only be listed, and dropped together."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 if it is done, 1 if a dead letter is unknown or Redis does not answer.
    """
    options = _parser().parse_args(arguments)
    url = load_settings(CommonSettings).redis_url
    client = connect(url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS)
    try:
        status: int = options.run(client, options)
    except redis.RedisError as error:
        # The URL may hold a password, its address does not.
        address = urlsplit(url).netloc.rpartition("@")[2]
        return _fail(f"Redis at {address}: {type(error).__name__}; REDIS_URL says where it is")
    finally:
        client.close()
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="headrace dead-letters", description=DESCRIPTION)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("list", help="list all dead letters, the newest first").set_defaults(run=_list)
    show = commands.add_parser("show", help="print a dead letter's entry; it may hold callers' data")
    show.add_argument("id", metavar="ID")
    show.set_defaults(run=_show)
    for name, run, summary in (
        ("requeue", _requeue, "put entries back into their queues"),
        ("drop", _drop, "delete entries"),
    ):
        command = commands.add_parser(name, help=summary)
        selection = command.add_mutually_exclusive_group(required=True)
        selection.add_argument("ids", nargs="*", default=[], metavar="ID")
        selection.add_argument("--all", action="store_true")
        command.set_defaults(run=run)
    return parser


def _list(client: redis.Redis, _: argparse.Namespace) -> int:
    letters = list(_letters(client))
    _print(f"{'ID':12}  {'PUT ASIDE':20}  {'QUEUE':16}  {'BYTES':>8}  REASON")
    for letter, kept in letters:
        if letter is None:
            _print(f"{UNREADABLE:12}  {'':20}  {'':16}  {len(kept):8}  not in the format of this version")
            continue
        at = datetime.fromtimestamp(letter.at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        _print(f"{letter.id:12}  {at:20}  {letter.queue:16}  {len(letter.content):8}  {letter.reason}")
    return 0


def _show(client: redis.Redis, options: argparse.Namespace) -> int:
    for letter, _ in _letters(client):
        if letter is not None and letter.id == options.id:
            # Escaped, since an entry may hold control sequences that a terminal would obey.
            _print(letter.content.decode("utf-8", "backslashreplace").encode("unicode_escape").decode("ascii"))
            return 0
    return _fail(f"no dead letter has the id {options.id}")


def _requeue(client: redis.Redis, options: argparse.Namespace) -> int:
    return _for_each(client, options, requeue=True)


def _drop(client: redis.Redis, options: argparse.Namespace) -> int:
    return _for_each(client, options, requeue=False)


def _for_each(client: redis.Redis, options: argparse.Namespace, requeue: bool) -> int:
    unknown = set(options.ids)
    done = left = 0
    # The oldest first, so that they are also the first in their queue again.
    for letter, kept in reversed(list(_letters(client))):
        name = UNREADABLE if letter is None else letter.id
        if not options.all and name not in options.ids:
            continue
        unknown.discard(name)
        # A letter may name any key as its queue; this command writes into queues only.
        if requeue and (letter is None or not is_queue(letter.queue)):
            left += 1
            continue
        with client.pipeline(transaction=True) as transaction:
            transaction.lrem(keys.DEAD_LETTERS, 1, kept)  # type: ignore[arg-type]
            if requeue and letter is not None:
                transaction.lpush(letter.queue, letter.content)
            transaction.execute()
        done += 1
    _print(f"{done} {'put back' if requeue else 'dropped'}")
    if unknown:
        return _fail(f"no dead letter has the id {', '.join(sorted(unknown))}")
    return _fail(f"{left} were in no queue: they can only be dropped") if left and not options.all else 0


def _letters(client: redis.Redis) -> Iterator[tuple[DeadLetter | None, bytes]]:
    kept: list[bytes] = client.lrange(keys.DEAD_LETTERS, 0, -1)  # type: ignore[assignment]
    for letter in kept:
        yield read(letter), letter


def _print(line: str) -> None:
    sys.stdout.write(f"{one_line(line)}\n")


def _fail(reason: str) -> int:
    sys.stderr.write(f"headrace: {one_line(reason)}\n")
    return 1
