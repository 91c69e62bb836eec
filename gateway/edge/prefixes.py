"""The path prefix under which a proxy publishes the gateway."""

import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address

from gateway.edge.headers import HeaderPairs
from gateway.settings import PREFIX_MAX_CHARACTERS, PREFIX_PATTERN
from headrace.errors import HeadraceError

Network = IPv4Network | IPv6Network

_FORWARDED = b"x-forwarded-prefix"
_FORM = re.compile(PREFIX_PATTERN)


class PrefixTaken(HeadraceError):
    """A prefix of the settings under which paths of routes would have two meanings."""


class Prefixes:
    """The prefixes of one gateway: that of its settings, and those that trusted proxies name."""

    def __init__(self, own: str = "", trusted: Collection[Network] = ()) -> None:
        """Take the settings.

        Args:
            own: prefix of all requests from which no trusted proxy names another one.
            trusted: networks of the proxies whose `X-Forwarded-Prefix` counts.
        """
        self.own = own
        self._trusted = tuple(trusted)
        self._is_trusted = lru_cache(maxsize=1024)(self._in_networks)

    def of(self, headers: HeaderPairs, address: str) -> str:
        """Return the prefix of a request that came from this address."""
        if not self._trusted or not self._is_trusted(address):
            return self.own
        given = [value for name, value in headers if name == _FORWARDED]
        # Of two, one may be the caller's.
        if len(given) != 1 or len(given[0]) > PREFIX_MAX_CHARACTERS:
            return self.own
        prefix = given[0].decode("latin-1").rstrip("/")
        return prefix if _FORM.fullmatch(prefix) else self.own

    def without(self, path: str) -> str:
        """Return the path of a route: that of a request, whose proxy may have left the gateway's own prefix in it."""
        own = self.own
        return (path[len(own) :] or "/") if own and f"{path}/".startswith(f"{own}/") else path

    def check(self, routes: Iterable[str]) -> None:
        """Check that the gateway's own prefix does not begin as one of its routes does.

        Raises:
            PrefixTaken: if it does: a proxy that removes the prefix would have a part of the path removed twice.
        """
        beginning = self.own.split("/")[1:2]
        if beginning and beginning[0] in {re.split("[/:]", route)[1] for route in routes}:
            raise PrefixTaken(f"ROOT_PATH={self.own} begins as a route of the gateway does: choose another prefix")

    def _in_networks(self, address: str) -> bool:
        try:
            caller = ip_address(address)
        except ValueError:
            return False
        return any(caller in network for network in self._trusted)
