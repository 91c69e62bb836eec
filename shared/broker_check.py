"""The check at the start of a process that REDIS_URL names a server that can do the work."""

import sys

from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from shared.master import connect

SECONDS = 1.0
"""Longest time of each step of the check: to connect, and to read the answer."""

REFUSALS = {
    "cluster": (
        "it names a Redis Cluster, over whose servers the keys of one job would be spread: "
        "name a single server, or the Sentinels of a master and its replicas"
    ),
    "sentinel": "it names a Sentinel as if it were the server: write sentinel://host:26379/0?master_name=mymaster",
}
"""Why a server of some mode is of no use."""


def why_refused(redis_url: str) -> str | None:
    """Return why the server of a URL can't do the work; None if it can, does not answer, or does not tell."""
    client = connect(redis_url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS, retry=Retry(NoBackoff(), 0))
    try:
        found: dict[str, str] = client.info("server")
    except (RedisError, OSError):
        # The server may come later, and a process waits for it.
        return None
    finally:
        client.close()
    return REFUSALS.get(found.get("redis_mode", ""))


def check_broker(redis_url: str) -> None:
    """End the process with one line if the server of a URL can't do the work.

    Raises:
        SystemExit: with code 2 if it can't.
    """
    reason = why_refused(redis_url)
    if reason is not None:
        print(f"headrace: REDIS_URL: {reason}", file=sys.stderr)  # noqa: T201 - as for other wrong settings
        raise SystemExit(2)
