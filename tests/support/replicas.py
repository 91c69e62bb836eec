"""A stack whose broker is a master, two replicas of it and three Sentinels, with a proxy before each server."""

from functools import partial
from pathlib import Path
from typing import Any

import redis

from scripts.broker import find_server
from shared.broker_url import Sentinels
from shared.master import Locator
from tests.chaos.proxy import FaultProxy
from tests.support.processes import Process, free_port, wait_for
from tests.support.stack import Stack

MASTER_NAME = "headrace"

DOWN_AFTER_MILLISECONDS = 1000
"""Time without an answer after which a Sentinel takes a server for dead."""


class Server:
    """A Redis server that everybody else knows by the address of the proxy before it."""

    def __init__(self, name: str, folder: Path, options: list[str]) -> None:
        data = folder / name
        data.mkdir()
        self._port, self.port = free_port(), free_port()
        self.proxy = FaultProxy(self.port, self._port)
        announced = ["--replica-announce-ip", "127.0.0.1", "--replica-announce-port", str(self.port)]
        where = ["--port", str(self._port), "--bind", "127.0.0.1", "--dir", str(data)]
        kept = ["--save", "", "--appendonly", "no", "--hash-max-listpack-value", "256"]
        quick = ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]
        self._command = [find_server(), *where, *announced, *kept, *quick, *options]
        self.process = Process(name, self._command, {}, folder)
        self.redis = redis.Redis(port=self._port, socket_timeout=2)

    def start(self, master: "Server | None" = None) -> None:
        """Start it, as a replica of another server if one is given."""
        of = ["--replicaof", "127.0.0.1", str(master.port)] if master else []
        self.process.command = [*self._command, *of]
        self.process.start()
        wait_for("the server answers", self._answers)

    def _answers(self) -> bool:
        try:
            return bool(self.redis.ping())
        except redis.RedisError:
            return False

    def follows(self, master: "Server") -> bool:
        """Tell whether it is an up-to-date replica of another server."""
        try:
            found: Any = self.redis.info("replication")
        except redis.RedisError:
            return False
        return (found.get("master_port"), found.get("master_link_status")) == (master.port, "up")

    def silence_replicas(self) -> None:
        """Let none of its replicas receive anything more, with both ends of their connections unaware."""
        found: Any = self.redis.client_list(_type="replica")
        assert self.proxy.half_open({int(each["addr"].rpartition(":")[2]) for each in found}) == len(found) > 0

    def close(self) -> None:
        """End it and its proxy."""
        if self.process.running:
            self.process.kill()
        self.redis.close()
        self.proxy.close()


class ReplicatedStack(Stack):
    """A stack of which only the Sentinels' addresses are known to gateway and workers."""

    def __init__(self, folder: Path, models: Path, server_options: tuple[str, ...] = (), **options: Any) -> None:
        self.servers = [Server(f"server{number}", folder, [*server_options]) for number in (1, 2, 3)]
        self._sentinel_ports = [free_port() for _ in range(3)]
        self._sentinels = [self._new_sentinel(folder, port) for port in self._sentinel_ports]
        urls = tuple(f"redis://127.0.0.1:{port}/0" for port in self._sentinel_ports)
        self._locate = Locator(Sentinels(urls, MASTER_NAME))
        super().__init__(folder, models, **options)

    def _new_sentinel(self, folder: Path, port: int) -> Process:
        data = folder / f"sentinel{port}"
        data.mkdir()
        lines = [
            f"port {port}",
            "bind 127.0.0.1",
            f"dir {data}",
            f"sentinel monitor {MASTER_NAME} 127.0.0.1 {self.servers[0].port} 2",
            f"sentinel down-after-milliseconds {MASTER_NAME} {DOWN_AFTER_MILLISECONDS}",
            f"sentinel failover-timeout {MASTER_NAME} 5000",
        ]
        (data / "sentinel.conf").write_text("\n".join(lines))
        return Process(f"sentinel{port}", [find_server(), str(data / "sentinel.conf"), "--sentinel"], {}, folder)

    def url_of(self, user: str) -> str:
        """Return the URL that names the Sentinels."""
        addresses = ",".join(f"127.0.0.1:{port}" for port in self._sentinel_ports)
        return f"sentinel://{addresses}/0?master_name={MASTER_NAME}"

    @property
    def master(self) -> Server:
        """The present master."""
        _, port = self._locate()
        return next(server for server in self.servers if server.port == port)

    @property
    def others(self) -> list[Server]:
        """The other servers."""
        master = self.master
        return [server for server in self.servers if server is not master]

    def start_broker(self, patience_seconds: float = 60.0) -> None:
        """Start servers and Sentinels, and wait until these know of each other and of the replicas."""
        master, *replicas = self.servers
        for server in self.servers:
            server.proxy.start()
        master.start()
        for replica in replicas:
            replica.start(master)
        for sentinel in self._sentinels:
            sentinel.start()
        self._wait_until_whole(patience_seconds)

    def fail_over(self) -> None:
        """Have the Sentinels make a replica the master, and the master a replica."""
        master = self.master
        with redis.Redis(port=self._sentinel_ports[0], socket_timeout=2) as sentinel:
            sentinel.execute_command("SENTINEL FAILOVER", MASTER_NAME)
        wait_for("a replica is the master", lambda: self.master is not master)

    def mend_broker(self) -> None:
        """Start what was killed, and wait until there are a master and its replicas again."""
        for server in self.servers:
            server.proxy.heal()
        for server in self.others:
            if not server.process.running:
                server.start(self.master)
        self._wait_until_whole()

    def _wait_until_whole(self, patience_seconds: float = 60.0) -> None:
        wait_for("the Sentinels know all", self._all_is_known, patience_seconds)
        master = self.master
        for server in self.others:
            wait_for("a replica is up to date", partial(server.follows, master), patience_seconds)

    def _all_is_known(self) -> bool:
        return all(map(self._is_known_to, self._sentinel_ports))

    def _is_known_to(self, port: int) -> bool:
        try:
            with redis.Redis(port=port, socket_timeout=2) as sentinel:
                state: Any = sentinel.sentinel_master(MASTER_NAME)
                replicas: Any = sentinel.sentinel_slaves(MASTER_NAME)
        except redis.RedisError:
            return False
        alive = [each for each in replicas if not each["is_sdown"] and not each["is_disconnected"]]
        return state["flags"] == "master" and state["num-other-sentinels"] == 2 and len(alive) == 2

    def close(self) -> None:
        """Stop everything."""
        try:
            super().close()
        finally:
            for process in (*self._sentinels, *(server.process for server in self.servers)):
                if process.running:
                    process.kill()
            for server in self.servers:
                server.close()
