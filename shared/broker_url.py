"""`REDIS_URL`, read once for all processes: redis-py, kombu and celery-exporter each read a URL in another way."""

import re
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

SCHEMES = ("redis", "rediss")


class UrlOptions(BaseModel):
    """The options that a URL may have; those of TLS are for `rediss://` alone."""

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


CONNECTION_OPTIONS = tuple(name for name in UrlOptions.model_fields if name != "db" and not name.startswith("ssl_"))
"""Options that kombu takes apart from the URL."""


def normalized(url: str) -> str:
    """Return a URL of Redis in the one form that redis-py and kombu read alike, with typed options.

    Raises:
        ValueError: if it can't be used. The message holds no part of the URL but the name of an option.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        # Its message may quote the password.
        raise ValueError("its host is not valid, or special characters in it are not percent-encoded") from None
    if parts.scheme not in SCHEMES:
        raise ValueError("it must begin with redis:// or rediss://, such as redis://127.0.0.1:6379/0")
    if parts.fragment or "@" in parts.path + parts.query:
        raise ValueError("special characters in it must be percent-encoded: # as %23, / as %2F, ? as %3F, @ as %40")
    options = _options(parts)
    if parts.scheme == "rediss" and options.ssl_cert_reqs is None:
        # redis-py verifies by default, kombu does not.
        options = options.model_copy(update={"ssl_cert_reqs": "required"})
    query = urlencode(options.model_dump(exclude={"db"}, exclude_none=True), safe="/:")
    return f"{parts.scheme}://{_address(parts)}/{options.db}{'?' if query else ''}{query}"


def for_kombu(url: str) -> tuple[str, dict[str, Any]]:
    """Return a normalized URL as kombu takes it, and the transport options that belong to it."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    typed = UrlOptions.model_validate(options).model_dump(include=set(CONNECTION_OPTIONS), exclude_none=True)
    rest = urlencode({name: value for name, value in options.items() if name not in typed}, safe="/:")
    return parts._replace(query=rest).geturl(), typed


def _address(parts: SplitResult) -> str:
    """Return user, password, host and port, each quoted; kombu takes a semicolon for the start of another URL."""
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("its port must be between 1 and 65535; special characters of a password are percent-encoded")
    host = parts.hostname or "127.0.0.1"
    host = f"[{host}]" if ":" in host else quote(unquote(host), safe="")
    password = None if parts.password is None else f":{quote(unquote(parts.password), safe='')}"
    user = "" if parts.username is None else f"{quote(unquote(parts.username), safe='')}{password or ''}@"
    return f"{user}{host}{'' if port is None else f':{port}'}"


def _options(parts: SplitResult) -> UrlOptions:
    given = parse_qsl(parts.query, keep_blank_values=True)
    values = dict(given)
    if len(values) < len(given):
        raise ValueError("it has an option twice")
    path = parts.path.strip("/")
    if path and values.setdefault("db", path) != path:
        raise ValueError("it names two databases: one in its path, one as the option db")
    if parts.scheme == "redis" and (tls := next((name for name in values if name.startswith("ssl_")), None)):
        raise ValueError(f"its option {_shown(tls)} needs rediss://")
    try:
        return UrlOptions.model_validate(values)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False, include_input=False)
        name = _shown(str(first["loc"][0]))
        if first["type"] == "extra_forbidden":
            raise ValueError(f"its option {name} is not supported; {', '.join(UrlOptions.model_fields)} are") from None
        raise ValueError(f"its option {name} is wrong: {first['msg']}") from None


def _shown(name: str) -> str:
    # The text may be a part of a password that was not quoted.
    return name if re.fullmatch(r"[a-z_]{1,40}", name) else "(its name is not shown)"
