"""Parsing of HTTP/1 requests: no upgrades, and no framing that a proxy in front could read in another way."""

from typing import Protocol

import httptools

from gateway.web.request_context import HeaderPairs


class Parsed(Protocol):
    """A connection whose requests are parsed: the parser calls its `on_…` methods."""

    parser: httptools.HttpRequestParser
    url: bytes
    headers: list[tuple[bytes, bytes]]
    """The headers of the request that was parsed last, names in lower case."""


def parse(connection: Parsed, data: bytes) -> None:
    """Feed the parser of a connection.

    The parser stops behind a head that asks for another protocol, and leaves the body unread. A server may ignore such
    a request (RFC 9110, section 7.8), but not its body, or the body would be read as the next request. Therefore the
    head is parsed again by a new parser, without its `Upgrade`, and then the rest.

    Raises:
        httptools.HttpParserError: if the data is no HTTP/1, or an `on_…` method raised an exception.
    """
    rest = memoryview(data)
    while rest:
        try:
            connection.parser.feed_data(rest)
            return
        except httptools.HttpParserUpgrade as upgrade:
            rest = rest[upgrade.args[0] :]
            head = _without_upgrade(connection)
            connection.parser = httptools.HttpRequestParser(connection)
            # uvicorn sets the same: a request behind the last one of its connection is ignored, and no error.
            connection.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            connection.parser.feed_data(head)


def will_be_parsed_again(parser: httptools.HttpRequestParser) -> bool:
    """Return True if a head asks for another protocol. A tunnel (CONNECT) has no other form, and is refused."""
    return parser.should_upgrade() and parser.get_method() != b"CONNECT"


def check_head(version: str, headers: HeaderPairs) -> None:
    """Check what the parser does not check.

    Raises:
        ValueError: if the version is neither 1.1 nor 1.0, there is not exactly one `Host`, of which a proxy in front
            may have used the other one (RFC 9112, section 3.2), or the body has a transfer coding besides chunked,
            which the parser would ignore, or any in HTTP/1.0, which has none (section 6.1).
    """
    hosts = codings = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"transfer-encoding":
            codings += 1 if version == "1.1" and value.lower() == b"chunked" else 2
    if version not in ("1.0", "1.1"):
        raise ValueError(f"HTTP/{version}")
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise ValueError(f"{hosts} hosts")
    if codings > 1:
        raise ValueError("a transfer coding other than chunked")


def _without_upgrade(connection: Parsed) -> bytes:
    parser = connection.parser
    headers = b"".join(b"%b: %b\r\n" % header for header in connection.headers if header[0] != b"upgrade")
    version = parser.get_http_version().encode()
    return b"%b %b HTTP/%b\r\n%b\r\n" % (parser.get_method(), connection.url, version, headers)
