"""A real Prometheus for tests."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.processes import Process, free_port, wait_for
from tests.support.requirements import require


class Prometheus:
    """Run a Prometheus that scrapes and evaluates once a second.

    `targets` are ports on this machine, by job; the jobs in `slow` get a timeout of two more seconds. It scrapes itself
    too.
    """

    def __init__(
        self,
        folder: Path,
        targets: Mapping[str, Sequence[int]],
        rules: Sequence[Path] = (),
        slow: Sequence[str] = (),
    ) -> None:
        program = shutil.which("prometheus")
        require(program is not None, "prometheus is not installed")
        assert program is not None
        config = folder / "prometheus.yml"
        port = free_port()
        config.write_text(yaml.safe_dump(_config({**targets, "prometheus": [port]}, rules, slow)))
        self.url = f"http://127.0.0.1:{port}"
        options = {
            "config.file": config,
            "storage.tsdb.path": folder / "series",
            "web.listen-address": f"127.0.0.1:{port}",
        }
        command = [program, *(f"--{name}={value}" for name, value in options.items())]
        self._process = Process("prometheus", command, {}, folder)
        self._http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def __enter__(self) -> "Prometheus":
        self._process.start()
        wait_for("Prometheus is ready", self._ready)
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()
        self._process.stop()

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return labels and value of each series of an expression."""
        answer = self._http.get("/api/v1/query", params={"query": expression})
        assert answer.status_code == 200, answer.text
        result: list[dict[str, Any]] = answer.json()["data"]["result"]
        return [(each["metric"], float(each["value"][1])) for each in result]

    def value(self, expression: str) -> float | None:
        """Return the value of an expression with at most one series; None if it has none."""
        found = self.query(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else None

    def _ready(self) -> bool:
        try:
            return self._http.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False


def _config(targets: Mapping[str, Sequence[int]], rules: Sequence[Path], slow: Sequence[str]) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [
            {
                "job_name": job,
                "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}],
                **({"scrape_interval": "3s", "scrape_timeout": "3s"} if job in slow else {}),
            }
            for job, ports in targets.items()
        ],
    }
