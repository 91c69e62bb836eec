"""The worker's own connections to Redis, beside Celery's."""

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from shared import master


def connect(redis_url: str, retries: int) -> redis.Redis:
    """Return a client that gives up soon: 2 s per try, with pauses of at most 1 s between `retries` more tries."""
    return master.connect(
        redis_url,
        socket_timeout=2.0,
        socket_connect_timeout=2.0,
        socket_keepalive=True,
        health_check_interval=15,
        retry=Retry(ExponentialBackoff(cap=1.0, base=0.05), retries),
    )
