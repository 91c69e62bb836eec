"""The services of docker-compose.yml, run from a clone."""

import json
from pathlib import Path
from typing import Any

import httpx

from tests.compose.engine import Engine
from tests.support.calls import Calls
from tests.support.processes import free_port, wait_for

PUBLISHED = ("GATEWAY_PORT", "GRPC_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT", "ALERTMANAGER_PORT")


class ComposeStack(Calls):
    """Services that `up` starts and `close` removes, configured by `.env` as the guide says."""

    def __init__(self, engine: Engine, folder: Path, **settings: str) -> None:
        self.folder = folder
        self._engine = engine
        ports = {name: free_port() for name in PUBLISHED}
        self._settings = {"COMPOSE_PROJECT_NAME": f"headrace-{ports['GATEWAY_PORT']}", "WORKER_CPUS": "1"}
        self.set(**{name: str(port) for name, port in ports.items()}, **settings)
        self.url = f"http://127.0.0.1:{ports['GATEWAY_PORT']}"
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}

    def set(self, **settings: str) -> None:
        """Set variables in `.env`."""
        self._settings |= settings
        (self.folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in self._settings.items()))

    def compose(self, *arguments: str) -> str:
        """Return the output of a command of Compose, which must succeed."""
        return self._engine.docker("compose", *arguments, folder=self.folder).stdout

    def fails(self, *arguments: str) -> bool:
        """Return True if a command of Compose fails."""
        return self._engine.docker("compose", *arguments, folder=self.folder, check=False).returncode != 0

    def shell(self, script: str) -> str:
        """Return the output of a shell's script in the clone."""
        return self._engine.shell(script, self.folder)

    def up(self) -> None:
        """Start what does not run, and wait until all is healthy and predictions are served."""
        started = self._engine.docker("compose", "up", "--detach", "--wait", folder=self.folder, check=False)
        assert started.returncode == 0, f"{self.logs()}\n{started.stderr}"
        self.wait_ready()

    def logs(self) -> str:
        """Return the last lines of each container, for a failing test."""
        return self.compose("logs", "--no-color", "--tail", "30")

    def containers(self, *services: str) -> list[dict[str, Any]]:
        """Return a dictionary for each container, by default for all, also for those that have ended."""
        return [json.loads(line) for line in self.compose("ps", "--all", "--format", "json", *services).splitlines()]

    def crash(self, container: str) -> None:
        """Kill the process of a container as if it had crashed: Docker starts it again."""
        before = self._started(container)
        self._engine.docker("exec", container, "sh", "-c", "kill -9 $(cat /proc/1/task/1/children)")
        wait_for(f"{container} runs again", lambda: self._started(container) != before)

    def _started(self, container: str) -> str:
        return self._engine.docker("inspect", "--format", "{{.State.StartedAt}}", container).stdout

    def query(self, expression: str, time: float | None = None) -> dict[str, float]:
        """Return the instances of an expression's series with their values, as Prometheus knows them."""
        parameters = {"query": expression} if time is None else {"query": expression, "time": str(time)}
        answer = httpx.get(f"{self.urls['PROMETHEUS_PORT']}/api/v1/query", params=parameters, trust_env=False)
        assert answer.status_code == 200, answer.text
        series = answer.json()["data"]["result"]
        return {each["metric"].get("instance", ""): float(each["value"][1]) for each in series}

    def close(self) -> None:
        """Remove everything, data too."""
        self.http.close()
        self.compose("--profile", "*", "down", "--volumes", "--timeout", "1")
