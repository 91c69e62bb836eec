"""One `REDIS_URL`, and what each process makes of it."""

import json
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import redis
from celery import Celery

from gateway.broker.redis_client import connect as connect_gateway
from scripts.stack import Ports, Stack
from shared.broker_url import Sentinels, UrlOptions, for_server, normalized
from shared.queue.celery_app import make_celery
from shared.settings import CommonSettings
from worker.redis_client import connect as connect_worker

COMPARED = ("host", "port", "username", "password", *UrlOptions.model_fields)


def of_gateway(url: str) -> dict[str, Any]:
    return connect_gateway(url, 1.0).connection_pool.connection_kwargs


def of_children(url: str) -> dict[str, Any]:
    return connect_worker(url, 0).connection_pool.connection_kwargs


def of_broker_check_and_dead_letters(url: str) -> dict[str, Any]:
    return redis.Redis.from_url(url, socket_timeout=5.0).connection_pool.connection_kwargs


def of_celery(url: str) -> dict[str, Any]:
    with make_celery(CommonSettings(redis_url=url)) as app, app.connection() as connection:
        found: dict[str, Any] = connection.channel().pool.connection_kwargs
        return found


def of_exporter(url: str) -> dict[str, Any]:
    """Return what celery-exporter makes of its settings; it reads the value of an option as JSON."""
    environment = Stack(Ports.read({}), url, {}).environment()
    with Celery(broker=environment["CE_BROKER_URL"], set_as_current=False) as app:
        options = (each.split("=", 1) for each in environment["CE_BROKER_TRANSPORT_OPTION"].split())
        app.conf.broker_transport_options = {name: json.loads(value) for name, value in options}
        with app.connection() as connection:
            found: dict[str, Any] = connection.channel().pool.connection_kwargs
            return found


def comparable(found: dict[str, Any], url: str) -> dict[str, Any]:
    """Leave out what the URL does not name, where each process has a default of its own."""
    defaults = {"host": None, "port": 6379, "username": None, "password": None, "db": 0}
    values = {name: found.get(name, defaults.get(name)) for name in COMPARED}
    if isinstance(demand := values["ssl_cert_reqs"], ssl.VerifyMode):
        values["ssl_cert_reqs"] = demand.name.lower().removeprefix("cert_")
    return {name: value for name, value in values.items() if name in defaults or f"{name}=" in url}


URLS: dict[str, dict[str, Any]] = {
    "redis://h:7/3?socket_timeout=5&socket_connect_timeout=1.5&socket_keepalive=0&health_check_interval=30": {
        "host": "h",
        "port": 7,
        "db": 3,
        "socket_timeout": 5.0,
        "socket_connect_timeout": 1.5,
        "socket_keepalive": False,
        "health_check_interval": 30,
    },
    "redis://h?db=4": {"db": 4},
    "redis://": {"host": "127.0.0.1"},
    "redis://[::1]:7/1": {"host": "::1", "port": 7, "db": 1},
    "redis://us%2Fer:a;b@c%20d%2520%C3%A9+%23:x@h": {"username": "us/er", "password": "a;b@c d%20é+#:x"},
    "redis://:pw@h": {"password": "pw"},
    "rediss://h": {"ssl_cert_reqs": "required"},
    "rediss://h?ssl_cert_reqs=CERT_NONE&ssl_check_hostname=false&ssl_ca_certs=/a b.pem&ssl_certfile=c&ssl_keyfile=k": {
        "ssl_cert_reqs": "none",
        "ssl_check_hostname": False,
        "ssl_ca_certs": "/a b.pem",
        "ssl_certfile": "c",
        "ssl_keyfile": "k",
    },
}


@pytest.mark.parametrize("process", [of_gateway, of_children, of_broker_check_and_dead_letters, of_celery, of_exporter])
@pytest.mark.parametrize("url", URLS)
def test_every_process_gets_the_same_typed_values(
    monkeypatch: pytest.MonkeyPatch, process: Callable[[str], dict[str, Any]], url: str
) -> None:
    monkeypatch.setattr("redis.Redis.ping", lambda _: True)
    used = CommonSettings(redis_url=url).redis_url

    found = comparable(process(used), used)

    expected = {"port": 6379, "username": None, "password": None, "db": 0, "host": "h", **URLS[url]}
    assert found == expected
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in expected.items()
    }


SENTINEL_URLS = {
    "sentinel://a,b:7/3": ("redis://a:26379/3", Sentinels(("redis://a:26379/0", "redis://b:7/0"), "mymaster")),
    "sentinel://us:p%2Cw@[::1]:1,a?db=2&master_name=m&socket_timeout=5&sentinel_password=p%40w": (
        "redis://us:p%2Cw@[::1]:1/2?socket_timeout=5.0",
        Sentinels(("redis://:p%40w@[::1]:1/0", "redis://:p%40w@a:26379/0"), "m"),
    ),
    "sentinels://:pw@a?sentinel_username=u&sentinel_password=s&ssl_ca_certs=/a b.pem": (
        "rediss://:pw@a:26379/0?ssl_ca_certs=/a+b.pem&ssl_cert_reqs=required",
        Sentinels(("rediss://u:s@a:26379/0?ssl_ca_certs=/a+b.pem&ssl_cert_reqs=required",), "mymaster"),
    ),
}


@pytest.mark.parametrize("url", SENTINEL_URLS)
def test_a_url_of_sentinels_is_that_of_a_server_and_its_sentinels(url: str) -> None:
    assert for_server(normalized(url)) == SENTINEL_URLS[url]


def test_celery_exporter_asks_the_sentinels_itself() -> None:
    url = normalized("sentinel://us:p%2Fw@a,b:7/3?master_name=m&sentinel_password=s&socket_timeout=5")
    environment = Stack(Ports.read({}), url, {}).environment()

    assert environment["CE_BROKER_URL"] == "sentinel://us:p%2Fw@a:26379/3;sentinel://b:7/3"
    options = dict(each.split("=", 1) for each in environment["CE_BROKER_TRANSPORT_OPTION"].split())
    assert json.loads(options["master_name"]) == "m"
    assert json.loads(options["sentinel_kwargs"]) == {"password": "s"}
    assert json.loads(options["socket_timeout"]) == 5.0


@pytest.mark.parametrize("connect", [lambda url: connect_gateway(url, 1.0), lambda url: connect_worker(url, 0)])
def test_a_client_of_a_replicated_server_asks_for_its_address(connect: Callable[[str], Any]) -> None:
    options = connect(normalized("sentinels://us:pw@a,b/3?ssl_ca_certs=c")).connection_pool.connection_kwargs

    assert options["locate"] is not None
    assert (options["username"], options["password"], options["db"]) == ("us", "pw", 3)
    assert options["ssl_ca_certs"] == "c"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("unix:///run/redis.sock", "must begin with redis://, rediss://, sentinel:// or sentinels://"),
        ("127.0.0.1:6379", "such as redis://127.0.0.1:6379/0"),
        ("redis://a,b", "several hosts, which only sentinel:// and sentinels:// may"),
        ("redis://h?master_name=secret", "option master_name is not supported"),
        ("sentinel://a;b", "separated by commas"),
        ("sentinel://:secret@a:1;sentinel://b:2", "separated by commas"),
        ("sentinel://a:1,b:99999", "port"),
        ("sentinel://a?ssl_ca_certs=secret", "option ssl_ca_certs needs sentinels://"),
        ("sentinel://a?master_name=", "option master_name is wrong"),
        ("sentinel://:12/secret@a,b", "percent-encoded"),
        ("redis://h?max_connections=5", "option max_connections is not supported"),
        ("redis://h?decode_responses=true", "option decode_responses is not supported"),
        ("redis://h?socket_timeout=secret", "option socket_timeout is wrong"),
        ("redis://h?socket_timeout=1", "option socket_timeout is wrong: Input should be greater than or equal to 2"),
        ("redis://h?socket_timeout=inf", "option socket_timeout is wrong"),
        ("redis://h?health_check_interval=0", "option health_check_interval is wrong"),
        ("redis://h?socket_keepalive=", "option socket_keepalive is wrong"),
        ("redis://h?ssl_ca_certs=secret", "option ssl_ca_certs needs rediss://"),
        ("rediss://h?ssl_cert_reqs=secret", "option ssl_cert_reqs is wrong"),
        ("redis://h/secret", "option db is wrong"),
        ("redis://h/1?db=2", "two databases"),
        ("redis://h?db=1&db=1", "an option twice"),
        ("redis://h:99999", "port"),
        ("redis://h:secret", "port"),
        ("redis://:12/secret@h", "percent-encoded"),
        ("redis://:12?secret@h", "percent-encoded"),
        ("redis://:12#secret@h", "percent-encoded"),
        ("redis://h?SECRET-secret=1", "its name is not shown"),
        ("redis://:secret@[::1", "host is not valid"),
        ("redis://:secret@h\u2100", "host is not valid"),
    ],
)
def test_other_urls_are_refused_in_one_sentence_without_secrets(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        normalized(url)

    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("url", [*URLS, *SENTINEL_URLS])
def test_a_url_is_normalized_once(url: str) -> None:
    assert normalized(normalized(url)) == normalized(url)
