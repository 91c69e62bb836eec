"""`headrace dead-letters`: list, show, requeue or drop queue entries that no worker understood."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone

import redis

from shared.queue import keys
from shared.queue.dead_letters import DeadLetter, read
from shared.settings import CommonSettings, load_settings

TIMEOUT_SECONDS = 5.0
UNREADABLE = "?"
"""The id of what was put aside in a form that is not known; it can be listed and dropped, all of them together."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it did what it was asked for, 1 if a dead letter is unknown or Redis does not answer."""
    asked = _parser().parse_args(arguments)
    client = redis.Redis.from_url(
        load_settings(CommonSettings).redis_url,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
    )
    try:
        done: int = asked.run(client, asked)
    except redis.RedisError as error:
        return _refuse(f"Redis: {type(error).__name__}")
    finally:
        client.close()
    return done


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m gateway.broker.dead_letters", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("list", help="all of them, the latest first").set_defaults(run=_list)
    show = commands.add_parser("show", help="the entry as it came; it may hold callers' data")
    show.add_argument("id", metavar="ID")
    show.set_defaults(run=_show)
    for name, run, says in (
        ("requeue", _requeue, "put entries back into the queues that they came from"),
        ("drop", _drop, "forget entries"),
    ):
        command = commands.add_parser(name, help=says)
        which = command.add_mutually_exclusive_group(required=True)
        which.add_argument("ids", nargs="*", default=[], metavar="ID")
        which.add_argument("--all", action="store_true")
        command.set_defaults(run=run)
    return parser


def _list(client: redis.Redis, _: argparse.Namespace) -> int:
    _say(f"{'ID':12}  {'PUT ASIDE':20}  {'QUEUE':16}  {'BYTES':>8}  REASON")
    for letter, kept in _letters(client):
        if letter is None:
            _say(f"{UNREADABLE:12}  {'':20}  {'':16}  {len(kept):8}  not in the form of this version")
            continue
        at = datetime.fromtimestamp(letter.at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        _say(f"{letter.id:12}  {at:20}  {letter.queue:16}  {len(letter.content):8}  {letter.reason}")
    return 0


def _show(client: redis.Redis, asked: argparse.Namespace) -> int:
    for letter, _ in _letters(client):
        if letter is not None and letter.id == asked.id:
            # Escaped: it may be anything, and a terminal obeys some of it.
            _say(letter.content.decode("utf-8", "backslashreplace").encode("unicode_escape").decode("ascii"))
            return 0
    return _refuse(f"no dead letter has the id {asked.id}")


def _requeue(client: redis.Redis, asked: argparse.Namespace) -> int:
    return _for_each(client, asked, requeue=True)


def _drop(client: redis.Redis, asked: argparse.Namespace) -> int:
    return _for_each(client, asked, requeue=False)


def _for_each(client: redis.Redis, asked: argparse.Namespace, requeue: bool) -> int:
    unknown = set(asked.ids)
    done = 0
    # Those that have waited longest first.
    for letter, kept in reversed(list(_letters(client))):
        if letter is None and requeue:
            continue
        name = UNREADABLE if letter is None else letter.id
        if not asked.all and name not in asked.ids:
            continue
        unknown.discard(name)
        with client.pipeline(transaction=True) as both:
            both.lrem(keys.DEAD_LETTERS, 1, kept)  # type: ignore[arg-type]
            if requeue and letter is not None:
                both.lpush(letter.queue, letter.content)
            both.execute()
        done += 1
    _say(f"{done} {'put back' if requeue else 'dropped'}")
    return _refuse(f"no dead letter has the id {', '.join(sorted(unknown))}") if unknown else 0


def _letters(client: redis.Redis) -> Iterator[tuple[DeadLetter | None, bytes]]:
    kept: list[bytes] = client.lrange(keys.DEAD_LETTERS, 0, -1)  # type: ignore[assignment]
    for letter in kept:
        yield read(letter), letter


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _refuse(why: str) -> int:
    sys.stderr.write(f"headrace: {why}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
