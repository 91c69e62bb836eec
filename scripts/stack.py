"""The programs of `make up`, and the addresses on which they listen."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts import broker
from scripts.ports import HOST, Port, read_number
from scripts.scrape_config import localize
from scripts.supervisor import Program, read_procfile
from shared.broker_url import for_exporter

PROCFILE = Path("Procfile")
SCRAPE_CONFIG = Path("monitoring/prometheus/prometheus-local.yml")
MOST_WORKERS = 64

EXPORTER_SETTINGS = {
    "CE_LOG_LEVEL": "WARNING",
    # kombu would take a lock to give unacked entries back to their queues, which is the workers' task, and release it
    # by a script, which the exporter's user in Compose may not run. This key always exists while the exporter waits for
    # answers: it is the set of the queues to which they go. So the lock counts as taken, and kombu goes on without it.
    "CE_BROKER_TRANSPORT_OPTION": 'unacked_mutex_key="_kombu.binding.reply.celery.pidbox"',
    # By default the exporter ends when the broker is gone for a moment.
    "CE_RETRY_INTERVAL": "2",
    # The queues are shown before the first worker starts.
    "CE_QUEUES": "interactive,bulk",
    # A killed worker counts as down after this many seconds instead of 300; each sends a heartbeat every 2 s.
    "CE_WORKER_TIMEOUT": "30",
    # Tasks take milliseconds, and by default the first bound is 5 of them.
    "CE_BUCKETS": "0.001,0.0025,0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,10,30",
}
"""Settings of celery-exporter, as in docker-compose.yml."""


@dataclass(frozen=True)
class Ports:
    """The ports of all programs; the defaults are those in `prometheus-local.yml`."""

    gateway: Port
    grpc: list[Port]
    """For gRPC, and for the metrics of its process; empty unless `GRPC_PORT` is set."""
    workers: list[Port]
    exporter: Port
    prometheus: Port
    broker: Port

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Ports":
        """Read the ports from the environment."""
        worker = read_number(environ, "WORKER_METRICS_PORT", 9101)
        count = read_number(environ, "WORKERS", 1, highest=MOST_WORKERS)
        grpc = [
            Port.read(environ, "GRPC_PORT", 8001, "gRPC", environ.get("GRPC_HOST") or HOST),
            Port.read(environ, "GRPC_METRICS_PORT", 9201, "gRPC metrics", environ.get("GRPC_METRICS_HOST") or HOST),
        ]
        return cls(
            grpc=grpc if environ.get("GRPC_PORT") else [],
            gateway=Port.read(environ, "GATEWAY_PORT", 8000, "gateway", environ.get("GATEWAY_HOST") or HOST),
            workers=[
                Port(
                    "WORKER_METRICS_PORT", worker + offset, "worker metrics", environ.get("WORKER_METRICS_HOST") or HOST
                )
                for offset in range(count)
            ],
            exporter=Port.read(environ, "EXPORTER_PORT", 9808, "celery-exporter"),
            prometheus=Port.read(environ, "PROMETHEUS_PORT", 9090, "Prometheus"),
            broker=Port.read(environ, "REDIS_PORT", 6379, "broker"),
        )


@dataclass(frozen=True)
class Stack:
    """The programs of the Procfile that run here."""

    ports: Ports
    redis_url: str
    left_out: Mapping[str, str]
    """Program -> the reason why it does not run."""

    def used_ports(self) -> list[Port]:
        """Return every port that must be free."""
        optional = {
            "broker": self.ports.broker,
            "exporter": self.ports.exporter,
            "prometheus": self.ports.prometheus,
        }
        used = [port for name, port in optional.items() if name not in self.left_out]
        return [self.ports.gateway, *self.ports.grpc, *self.ports.workers, *used]

    def environment(self) -> dict[str, str]:
        """Return the environment variables of all programs."""
        exporter_url, url_options = for_exporter(self.redis_url)
        transport_options = [
            f"{name}={json.dumps(value, separators=(',', ':'))}" for name, value in url_options.items()
        ]
        return {
            "REDIS_URL": self.redis_url,
            "REDIS_PORT": str(self.ports.broker.number),
            "GATEWAY_HOST": self.ports.gateway.host,
            "GATEWAY_PORT": str(self.ports.gateway.number),
            **{port.variable: str(port.number) for port in self.ports.grpc},
            "PROMETHEUS_PORT": str(self.ports.prometheus.number),
            # celery-exporter reads CE_*. In a command line, every user of the machine could read the password.
            "CE_BROKER_URL": exporter_url,
            "CE_HOST": self.ports.exporter.host,
            "CE_PORT": str(self.ports.exporter.number),
            **EXPORTER_SETTINGS,
            "CE_BROKER_TRANSPORT_OPTION": " ".join(
                [EXPORTER_SETTINGS["CE_BROKER_TRANSPORT_OPTION"], *transport_options]
            ),
        }

    def programs(self) -> list[Program]:
        """Return the programs in the order of the Procfile."""
        programs = []
        for name, command in read_procfile(PROCFILE).items():
            if name == "worker":
                programs += self._workers(command)
            elif name == "broker" and name not in self.left_out:
                programs.append(Program(name, command, ready=lambda: broker.answers(self.redis_url)))
            elif name not in self.left_out and (name != "grpc" or self.ports.grpc):
                programs.append(Program(name, command))
        return programs

    def _workers(self, command: str) -> list[Program]:
        ports = self.ports.workers
        names = ["worker"] if len(ports) == 1 else [f"worker.{number}" for number, _ in enumerate(ports, start=1)]
        return [
            Program(name, command, {"WORKER_METRICS_PORT": str(port.number)}, again=True)
            for name, port in zip(names, ports, strict=True)
        ]

    def addresses(self) -> dict[str, str]:
        """Return the name and address of each part, for people."""
        gateway = self.ports.gateway.url
        addresses = {"Gateway": gateway, "API docs": f"{gateway}/docs", "Gateway metrics": f"{gateway}/metrics"}
        if self.ports.grpc:
            calls, metrics = self.ports.grpc
            addresses |= {"gRPC": calls.url.partition("//")[2], "gRPC metrics": f"{metrics.url}/metrics"}
        for number, port in enumerate(self.ports.workers, start=1):
            name = "Worker metrics" if len(self.ports.workers) == 1 else f"Worker {number} metrics"
            addresses[name] = f"{port.url}/metrics"
        if "exporter" not in self.left_out:
            addresses["Celery metrics"] = f"{self.ports.exporter.url}/metrics"
        if "prometheus" not in self.left_out:
            addresses["Prometheus"] = self.ports.prometheus.url
        return addresses

    def scrape_config(self) -> str:
        """Return Prometheus' configuration for these ports."""
        return localize(
            SCRAPE_CONFIG,
            {
                8000: [self.ports.gateway.number],
                9201: [port.number for port in self.ports.grpc[1:]],
                9101: [port.number for port in self.ports.workers],
                9808: [] if "exporter" in self.left_out else [self.ports.exporter.number],
                9090: [self.ports.prometheus.number],
            },
        )
