"""Connections to the server that takes writes: they ask Sentinels for it, and leave one that became a replica.

redis-py's own classes for Sentinel leave a replica only where there are Sentinels. A name or an address that moves to
another server needs the same.
"""

from contextlib import suppress
from functools import cache
from time import monotonic
from typing import Any, NoReturn

import redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import MasterDownError, ReadOnlyError, RedisError, ResponseError
from redis.retry import Retry

from shared.broker_url import Sentinels, for_server

SENTINEL_SECONDS = 0.5
"""Time to connect to a Sentinel, and time to wait for its answer."""

DEMOTED = "the server is a replica now"

CHECK_SECONDS = 1.0
"""Time after which a connection in use asks again where the master is."""

PAUSE_SECONDS = 5.0
"""Time without such checks after a Sentinel that was of no help: its answer was waited for."""

Address = tuple[str, int]


class MasterUnknown(Lost):
    """No Sentinel knows a master that lives."""


def is_demoted(error: ResponseError) -> bool:
    """Tell whether an answer means that this server is a replica, or has just become one."""
    return isinstance(error, ReadOnlyError | MasterDownError) or str(error).startswith(
        ("READONLY ", "MASTERDOWN ", "UNBLOCKED force unblock")
    )


def live_master(state: dict[str, Any]) -> Address | None:
    """Return the address in a Sentinel's answer about a master, or None if it takes the master for dead."""
    if state["is_sdown"] or state["is_odown"] or not state["is_master"]:
        return None
    return state["ip"], state["port"]


class SentinelOrder:
    """The Sentinels in the order in which they are asked: the last one that helped is asked first.

    Several threads may use it: each replaces the list and changes none.
    """

    def __init__(self, sentinels: Sentinels) -> None:
        self._urls = [*sentinels.urls]
        self.master_name = sentinels.master_name

    def all(self) -> list[str]:
        """Return their URLs."""
        return [*self._urls]

    def put_first(self, url: str) -> None:
        """Ask a Sentinel before the others from now on."""
        self._urls = [url, *(each for each in self._urls if each != url)]

    def put_last(self, url: str) -> None:
        """Ask a Sentinel after the others from now on."""
        self._urls = [*(each for each in self._urls if each != url), url]

    def no_master(self, error: Exception | None) -> MasterUnknown:
        """Return the error for what all of them said; `error` is the last failure."""
        reason = f": {error or type(error).__name__}" if error else ""
        return MasterUnknown(f"no Sentinel knows a live master of the name {self.master_name!r}{reason}")


class Locator:
    """A call that returns the master's present address."""

    def __init__(self, sentinels: Sentinels) -> None:
        self._order = SentinelOrder(sentinels)
        self._address: Address | None = None
        self._check_at = 0.0

    def __call__(self) -> Address:
        """Ask the Sentinels one after another.

        Raises:
            MasterUnknown: if none knows a live master.
        """
        last: Exception | None = None
        for url in self._order.all():
            try:
                if (address := self._ask(url)) is not None:
                    return address
            except (RedisError, OSError) as error:
                last = error
        raise self._order.no_master(last)

    def has_left(self, address: Address) -> bool:
        """Tell whether the master is at another address, as one Sentinel says; asked once in CHECK_SECONDS.

        Sentinels make a replica of an old master that lives only after some ten seconds; until then it takes writes.
        """
        if monotonic() >= self._check_at:
            self._check_at = monotonic() + PAUSE_SECONDS
            with suppress(RedisError, OSError):
                self._ask(self._order.all()[0])
        return self._address not in (None, address)

    def _ask(self, url: str) -> Address | None:
        # Asked last by the next call, unless it helps.
        self._order.put_last(url)
        with redis.Redis.from_url(url, **sentinel_options(Retry(NoBackoff(), 0))) as sentinel:
            address = live_master(sentinel.sentinel_master(self._order.master_name))
        if address is not None:
            self._order.put_first(url)
            self._address, self._check_at = address, monotonic() + CHECK_SECONDS
        return address


locator = cache(Locator)
"""Return the one Locator of a process for some Sentinels."""


def sentinel_options(retry: Any) -> dict[str, Any]:
    """Return the options of a connection to a Sentinel, with a `retry` that does not retry."""
    return {"socket_timeout": SENTINEL_SECONDS, "socket_connect_timeout": SENTINEL_SECONDS, "retry": retry}


class _ToMaster:
    """Mixin of a connection that asks where the master is, and breaks when its server is none any more."""

    def __init__(self, *args: Any, locate: Locator | None = None, **options: Any) -> None:
        super().__init__(*args, **options)
        self._locate = locate

    def connect_check_health(self, *args: Any, **options: Any) -> None:
        connection: Any = self
        if self._locate is not None and not connection.is_connected:
            connection.host, connection.port = self._locate()
        super().connect_check_health(*args, **options)  # type: ignore[misc]

    def send_packed_command(self, *args: Any, **options: Any) -> None:
        connection: Any = self
        locate = self._locate if connection.is_connected else None
        if locate is not None and locate.has_left((connection.host, connection.port)):
            self._break()
        super().send_packed_command(*args, **options)  # type: ignore[misc]

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except ResponseError as error:
            if not is_demoted(error):
                raise
            self._break()

    def _break(self) -> NoReturn:
        self.disconnect()  # type: ignore[attr-defined]
        raise Lost(DEMOTED) from None


class MasterConnection(_ToMaster, redis.Connection):
    """A connection to the master."""


class MasterTlsConnection(_ToMaster, redis.SSLConnection):
    """A connection to the master over TLS."""


def connect(redis_url: str, **options: Any) -> redis.Redis:
    """Return a client of the master. The URL's options come before these."""
    url, sentinels = for_server(redis_url)
    pool: Any = redis.ConnectionPool.from_url(url, **options)
    with_tls = issubclass(pool.connection_class, redis.SSLConnection)
    pool.connection_class = MasterTlsConnection if with_tls else MasterConnection
    if sentinels is not None:
        pool.connection_kwargs["locate"] = locator(sentinels)
    return redis.Redis.from_pool(pool)
