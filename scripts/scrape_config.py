"""Prometheus' configuration for `make up`: the committed one, with the ports of this run."""

from pathlib import Path
from typing import Any

import yaml

from scripts.ports import HOST


def localize(source: Path, ports: dict[int, list[int]]) -> str:
    """Return the configuration in `source` with other targets; `ports` maps a usual port to those of this run.

    Relative paths become absolute, because the configuration is written to another folder.
    """
    config: dict[str, Any] = yaml.safe_load(source.read_text())
    folder = source.parent.resolve()
    config["rule_files"] = [str(folder / pattern) for pattern in config.get("rule_files", [])]
    for job in config.get("scrape_configs", []):
        for group in job.get("static_configs", []):
            group["targets"] = [target for usual in group["targets"] for target in _targets(usual, ports)]
    return yaml.safe_dump(config, sort_keys=False)


def _targets(usual: str, ports: dict[int, list[int]]) -> list[str]:
    _, _, port = usual.rpartition(":")
    if not port.isdigit() or int(port) not in ports:
        return [usual]
    return [f"{HOST}:{number}" for number in ports[int(port)]]
