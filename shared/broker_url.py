"""`REDIS_URL`, read once for all processes: redis-py, kombu and celery-exporter each read a URL in another way."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

SERVER_SCHEMES = {"redis": "redis", "rediss": "rediss", "sentinel": "redis", "sentinels": "rediss"}
"""Schemes of a URL, each with that of a single server; the names with an `s` at the end mean TLS."""

SENTINEL_PORT = 26379


@dataclass(frozen=True)
class Sentinels:
    """The Sentinels that know the address of a master."""

    urls: tuple[str, ...]
    """URLs of the Sentinels themselves, as redis-py takes them."""
    master_name: str


class UrlOptions(BaseModel):
    """The options that a URL may have; those of TLS are for `rediss://` and `sentinels://` alone."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    db: int = Field(default=0, ge=0)
    """Number of the database, another form of the URL's path."""
    socket_timeout: float | None = Field(default=None, ge=2)
    """Seconds to wait for an answer. Some reads block for one second."""
    socket_connect_timeout: float | None = Field(default=None, gt=0)
    """Seconds to wait for a connection."""
    socket_keepalive: bool | None = None
    """True if TCP looks for dead connections."""
    health_check_interval: int | None = Field(default=None, ge=1)
    """Seconds after which an idle connection is checked. Without checks a worker would wait on a dead one for ever."""
    ssl_ca_certs: str | None = None
    """File of the authorities."""
    ssl_cert_reqs: Literal["required", "optional", "none"] | None = None
    """Demand on Redis' certificate."""
    ssl_check_hostname: bool | None = None
    """True if the certificate must be for the host of the URL."""
    ssl_ca_path: str | None = None
    """Directory of the authorities."""
    ssl_certfile: str | None = None
    """File of the client's certificate."""
    ssl_keyfile: str | None = None
    """File of the client's key."""
    ssl_password: str | None = None
    """Password of the client's key."""
    ssl_ciphers: str | None = None
    """Ciphers in OpenSSL's form."""

    @field_validator("ssl_cert_reqs", mode="before")
    @classmethod
    def _in_redis_form(cls, value: str) -> str:
        """Accept kombu's names, `CERT_REQUIRED` for example."""
        return value.lower().removeprefix("cert_")


class SentinelOptions(UrlOptions):
    """The options of `sentinel://` and `sentinels://`: two more users, and the name of what is asked for."""

    master_name: str = Field(default="mymaster", min_length=1)
    """Name by which the Sentinels know the master."""
    sentinel_username: str | None = None
    """User of the Sentinels, if they have users; the URL's own is Redis' user."""
    sentinel_password: str | None = None
    """Password of the Sentinels, if they need one."""


CONNECTION_OPTIONS = tuple(name for name in UrlOptions.model_fields if name != "db" and not name.startswith("ssl_"))
"""Options that kombu takes apart from the URL."""


SENTINEL_OPTIONS = tuple(name for name in SentinelOptions.model_fields if name not in UrlOptions.model_fields)
"""Options that a normalized URL has only if it names Sentinels; `master_name` it then has always."""


def normalized(url: str) -> str:
    """Return a URL of Redis in the one form that all processes read alike, with typed options.

    Raises:
        ValueError: if it can't be used. The message holds no part of the URL but the name of an option.
    """
    scheme, hosts = _split(url)
    if len(hosts) > 1 and not scheme.startswith("sentinel"):
        raise ValueError("it names several hosts, which only sentinel:// and sentinels:// may")
    parts = hosts[0]
    if parts.fragment or any("@" in each.path + each.query for each in hosts):
        raise ValueError("special characters in it must be percent-encoded: # as %23, / as %2F, ? as %3F, @ as %40")
    options = _options(parts)
    if SERVER_SCHEMES[scheme] == "rediss" and options.ssl_cert_reqs is None:
        # redis-py verifies by default, kombu does not.
        options = options.model_copy(update={"ssl_cert_reqs": "required"})
    given = options.model_dump(exclude={"db"}, exclude_none=True)
    return _url(scheme, _user(parts), ",".join(map(_address, hosts)), options.db, given)


def for_server(url: str) -> tuple[str, Sentinels | None]:
    """Return a normalized URL as that of one server, and the Sentinels that know the server's true address, if any.

    With Sentinels, user, database and options are those of the master, and the address is the first Sentinel's.
    """
    scheme, hosts = _split(url)
    first, options = hosts[0], dict(parse_qsl(hosts[0].query))
    asked = {name: options.pop(name) for name in SENTINEL_OPTIONS if name in options}
    server_url = _url(SERVER_SCHEMES[scheme], _user(first), _address(first), first.path.strip("/"), options)
    if not asked:
        return server_url, None
    user, password = (quote(asked.get(f"sentinel_{name}", ""), safe="") for name in ("username", "password"))
    user = f"{user}:{password}@" if password else ""
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    urls = [_url(SERVER_SCHEMES[scheme], user, _address(each), 0, tls) for each in hosts]
    return server_url, Sentinels(tuple(urls), asked["master_name"])


def for_kombu(url: str) -> tuple[str, dict[str, Any]]:
    """Return the URL of a server as kombu takes it, and the transport options that belong to it."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    typed = UrlOptions.model_validate(options).model_dump(include=set(CONNECTION_OPTIONS), exclude_none=True)
    rest = urlencode({name: value for name, value in options.items() if name not in typed}, safe="/:")
    return parts._replace(query=rest).geturl(), typed


def for_exporter(url: str) -> tuple[str, dict[str, Any]]:
    """Return a normalized URL, and its options, as kombu's own transports take them; over TLS they ask no Sentinels."""
    server_url, sentinels = for_server(url)
    first, options = for_kombu(server_url)
    if sentinels is None:
        return first, options
    parts = urlsplit(first)
    addresses = [urlsplit(each).netloc.rpartition("@")[2] for each in sentinels.urls]
    urls = [f"sentinel://{parts.netloc}{parts.path}", *(f"sentinel://{each}{parts.path}" for each in addresses[1:])]
    own = urlsplit(sentinels.urls[0])
    credentials = {"username": own.username, "password": own.password}
    given = {name: unquote(value) for name, value in credentials.items() if value}
    return ";".join(urls), {**options, "master_name": sentinels.master_name, "sentinel_kwargs": given}


def _split(url: str) -> tuple[str, list[SplitResult]]:
    """Return the scheme, and the parts of the URL once for each of its hosts."""
    scheme, _, rest = url.partition("://")
    scheme = scheme.lower()
    if scheme not in SERVER_SCHEMES:
        *schemes, last = (f"{each}://" for each in SERVER_SCHEMES)
        raise ValueError(f"it must begin with {', '.join(schemes)} or {last}, such as redis://127.0.0.1:6379/0")
    place = re.split("[/?#]", rest, maxsplit=1)[0]
    user, at, hosts = place.rpartition("@")
    tail = rest[len(place) :]
    if "://" in tail or ";" in hosts:
        raise ValueError("several hosts are separated by commas, such as sentinel://a:26379,b:26379/0")
    try:
        return scheme, [urlsplit(f"{scheme}://{user}{at}{host}{tail}") for host in hosts.split(",")]
    except ValueError:
        # Its message may quote the password.
        raise ValueError("its host is not valid, or special characters in it are not percent-encoded") from None


def _url(scheme: str, user: str, address: str, database: int | str, options: Mapping[str, Any]) -> str:
    query = urlencode(options, safe="/:")
    return f"{scheme}://{user}{address}/{database}{'?' if query else ''}{query}"


def _user(parts: SplitResult) -> str:
    """Return user and password, quoted; kombu takes a semicolon for the start of another URL."""
    if parts.username is None:
        return ""
    password = "" if parts.password is None else f":{quote(unquote(parts.password), safe='')}"
    return f"{quote(unquote(parts.username), safe='')}{password}@"


def _address(parts: SplitResult) -> str:
    """Return host and port."""
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("its port must be between 1 and 65535; special characters of a password are percent-encoded")
    if port is None and parts.scheme.startswith("sentinel"):
        port = SENTINEL_PORT
    host = parts.hostname or "127.0.0.1"
    host = f"[{host}]" if ":" in host else quote(unquote(host), safe="")
    return f"{host}{'' if port is None else f':{port}'}"


def _options(parts: SplitResult) -> UrlOptions:
    given = parse_qsl(parts.query, keep_blank_values=True)
    values = dict(given)
    if len(values) < len(given):
        raise ValueError("it has an option twice")
    path = parts.path.strip("/")
    if path and values.setdefault("db", path) != path:
        raise ValueError("it names two databases: one in its path, one as the option db")
    has_tls = SERVER_SCHEMES[parts.scheme] == "rediss"
    if not has_tls and (tls := next((name for name in values if name.startswith("ssl_")), None)):
        raise ValueError(f"its option {_shown(tls)} needs {parts.scheme}s://")
    form = SentinelOptions if parts.scheme.startswith("sentinel") else UrlOptions
    try:
        return form.model_validate(values)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False, include_input=False)
        name = _shown(str(first["loc"][0]))
        if first["type"] == "extra_forbidden":
            raise ValueError(f"its option {name} is not supported; {', '.join(form.model_fields)} are") from None
        raise ValueError(f"its option {name} is wrong: {first['msg']}") from None


def _shown(name: str) -> str:
    # The text may be a part of a password that was not quoted.
    return name if re.fullmatch(r"[a-z_]{1,40}", name) else "(its name is not shown)"
