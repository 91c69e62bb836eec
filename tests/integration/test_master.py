"""Connections to a master: with Sentinels, over TLS with passwords, and to a server that becomes a replica."""

from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import ResponseError

from gateway.broker.confirmed_script import ConfirmedScript
from gateway.broker.raw_connection import RawConnection
from gateway.broker.redis_client import connect as connect_gateway
from scripts import broker
from scripts.refusal import Refusal
from shared import master
from shared.broker_url import normalized
from shared.queue.celery_app import make_celery
from shared.settings import CommonSettings
from tests.support.coroutines import run
from tests.support.processes import Process, free_port, python, wait_for
from tests.support.replicas import Server
from tests.support.requirements import require
from tests.support.tls import tls_files

Pair = tuple[Server, Server]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    first, second = servers = (Server("first", folder, []), Server("second", folder, []))
    try:
        for server in servers:
            server.proxy.start()
        first.start()
        second.start(first)
        yield servers
    finally:
        for server in servers:
            server.close()


@pytest.fixture
def pair(both: Pair) -> Pair:
    """Return a master and its replica."""
    first, second = both
    first.redis.replicaof("NO", "ONE")
    first.proxy.heal()
    wait_for("the replica is up to date", lambda: second.follows(first))
    first.redis.flushall()
    return both


def url_of(server: Server) -> str:
    return f"redis://127.0.0.1:{server.port}/0"


async def through_client(url: str) -> Any:
    client = connect_gateway(url, 5.0)
    return client.lpush, client.aclose


async def through_raw_connection(url: str) -> Any:
    connection = RawConnection(url, 5.0)
    return connection.lpush, connection.aclose


async def through_worker(url: str) -> Any:
    client = master.connect(url, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0))

    async def push(name: str, value: bytes) -> None:
        client.lpush(name, value)

    async def close() -> None:
        client.close()

    return push, close


@pytest.mark.parametrize("connected", [through_client, through_raw_connection, through_worker])
def test_a_connection_leaves_a_server_that_became_a_replica(
    pair: Pair, connected: Callable[[str], Coroutine[Any, Any, Any]]
) -> None:
    server, other = pair

    def connections() -> int:
        found: Any = server.redis.info("stats")
        return int(found["total_connections_received"])

    async def scenario() -> None:
        push, close = await connected(url_of(server))
        await push("list", b"a")
        wait_for("the replica has it", lambda: other.redis.lrange("list", 0, -1) == [b"a"])
        before = connections()
        other.redis.replicaof("NO", "ONE")
        server.redis.replicaof("127.0.0.1", other.port)
        with pytest.raises(Lost, match="replica"):
            await push("list", b"b")
        server.redis.replicaof("NO", "ONE")
        await push("list", b"c")
        assert connections() > before
        await close()

    try:
        run(scenario())
    finally:
        other.redis.replicaof("127.0.0.1", server.port)
    assert server.redis.lrange("list", 0, -1) == [b"c", b"a"]


WRITES = "return redis.call('INCR', KEYS[1])"
FINDS = "return redis.call('GET', KEYS[1])"


def test_a_write_is_confirmed_by_replicas(pair: Pair) -> None:
    server, _ = pair

    async def scenario() -> None:
        client = connect_gateway(url_of(server), 5.0)
        write, find = ConfirmedScript(client, WRITES, 1), ConfirmedScript(client, FINDS, 1)
        assert await write(["n"], []) == (1, True)
        assert await find(["n"], []) == (b"1", True)
        assert await ConfirmedScript(client, WRITES, 2)(["n"], []) == (2, False)
        server.silence_replicas()
        assert await ConfirmedScript(client, WRITES, 0)(["n"], []) == (3, True)
        # A request that is sent again finds its job. That says nothing of the replicas.
        assert await find(["n"], []) == (b"3", False)
        await client.aclose()

    run(scenario())


def test_a_master_without_replicas_can_refuse_by_itself(pair: Pair) -> None:
    server, _ = pair

    async def scenario() -> None:
        client = connect_gateway(url_of(server), 5.0)
        for replicas in (0, 1):
            with pytest.raises(ResponseError, match="NOREPLICAS"):
                await ConfirmedScript(client, WRITES, replicas)(["n"], [])
        await client.aclose()

    server.redis.config_set("min-replicas-to-write", 2)
    try:
        run(scenario())
    finally:
        server.redis.config_set("min-replicas-to-write", 0)
    assert server.redis.get("n") is None


def _has_ended(process: Process) -> bool:
    return not process.running


def ping_from_gateway(url: str) -> None:
    async def scenario() -> None:
        client = connect_gateway(url, 5.0)
        assert await client.ping()
        await client.aclose()

    run(scenario())


def ping_from_children(url: str) -> None:
    with master.connect(url, socket_timeout=5.0) as client:
        assert client.ping()


def ping_from_celery(url: str) -> None:
    with make_celery(CommonSettings(redis_url=url)) as app:
        app.conf.broker_transport = "worker.consumer.transport:Transport"
        with app.connection() as connection:
            assert connection.channel().client.ping()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the URL of a master behind one Sentinel, over TLS, with a password each."""
    folder = tmp_path_factory.mktemp("guarded")
    files = tls_files(folder / "tls")
    ports = free_port(), free_port()
    secrets = ["--requirepass", "p@ss", "--masterauth", "p@ss"]
    of_both = [option.removeprefix("--") for option in files.options()]
    lines = [
        "port 0",
        f"tls-port {ports[1]}",
        "bind 127.0.0.1",
        f"dir {folder}",
        "tls-replication yes",
        *(" ".join(of_both[at : at + 2]) for at in range(0, len(of_both), 2)),
        "requirepass s:cret",
        f"sentinel monitor guarded 127.0.0.1 {ports[0]} 1",
        "sentinel auth-pass guarded p@ss",
    ]
    configuration = folder / "sentinel.conf"
    configuration.write_text("\n".join(lines))
    where = ["--port", "0", "--tls-port", str(ports[0]), "--bind", "127.0.0.1", "--save", ""]
    server = Process("server", [broker.find_server(), *where, *files.options(), *secrets], {}, folder)
    sentinel = Process("sentinel", [broker.find_server(), str(configuration), "--sentinel"], {}, folder)
    server.start()
    try:
        wait_for("the server listens or has ended", lambda: "Ready to accept" in server.log() or not server.running)
        require(server.running, "the server was built without TLS")
        sentinel.start()
        yield (
            f"sentinels://:p%40ss@127.0.0.1:{free_port()},127.0.0.1:{ports[1]}/1"
            f"?master_name=guarded&sentinel_password=s%3Acret&ssl_ca_certs={files.authority}"
        )
    finally:
        for process in (server, sentinel):
            if process.running:
                process.stop()


@pytest.mark.parametrize("ping", [ping_from_gateway, ping_from_children, ping_from_celery])
def test_sentinels_over_tls_with_passwords(guarded: str, ping: Callable[[str], None]) -> None:
    wait_for("the Sentinel knows the master", lambda: broker.why_unreachable(guarded) is None)

    ping(normalized(guarded))


def test_a_master_that_no_sentinel_knows(guarded: str) -> None:
    with pytest.raises(master.MasterUnknown, match="no Sentinel knows a live master of the name 'other'"):
        ping_from_children(normalized(guarded.replace("=guarded", "=other")))


@pytest.mark.parametrize(
    ("option", "reason"), [("--cluster-enabled yes", "it names a Redis Cluster"), ("--sentinel", "it names a Sentinel")]
)
def test_a_broker_that_can_not_work_is_refused_at_the_start(tmp_path: Path, option: str, reason: str) -> None:
    port = free_port()
    configuration = tmp_path / "redis.conf"
    configuration.write_text(f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n")
    server = Process("server", [broker.find_server(), str(configuration), *option.split()], {}, tmp_path)
    url = f"redis://127.0.0.1:{port}/0"
    server.start()
    try:
        wait_for("the server answers", lambda: broker.why_unreachable(url) is None)
        for module in ("gateway", "worker"):
            process = Process(module, python(module), {"REDIS_URL": url}, tmp_path)
            process.start()
            wait_for(f"{module} ends", partial(_has_ended, process))
            assert process.log().startswith(f"headrace: REDIS_URL: {reason}")
            assert len(process.log().splitlines()) == 1
        with pytest.raises(Refusal, match=reason):
            broker.check_reachable(url)
    finally:
        server.stop()
