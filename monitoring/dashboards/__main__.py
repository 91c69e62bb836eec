"""`python -m monitoring.dashboards`: write the dashboards, or check with `--check` that they are up to date."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from monitoring.dashboards.model import model
from monitoring.dashboards.overview import overview
from monitoring.dashboards.platform import platform
from monitoring.dashboards.queue import queue

FOLDER = Path(__file__).parents[1] / "grafana" / "dashboards"

CHART_FOLDER = Path(__file__).parents[2] / "deploy" / "helm" / "headrace" / "files" / "dashboards"
"""The Helm chart's copies: a chart reads no file outside of its folder."""

FILES = {"model.json": model, "overview.json": overview, "platform.json": platform, "queue.json": queue}
"""File name -> function that makes its content."""


def render() -> dict[Path, str]:
    """Return file and content. Keys are sorted, so that two versions differ only where their meaning does."""
    encoder = JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False)
    return {FOLDER / name: encoder.encode(make()) + "\n" for name, make in FILES.items()}


def render_all() -> dict[Path, str]:
    """Return file and content, with the chart's copies."""
    files = render()
    return files | {CHART_FOLDER / path.name: text for path, text in files.items()}


def outdated() -> list[Path]:
    """Return the committed files that differ from what would be written."""
    return [path for path, text in render_all().items() if not path.is_file() or path.read_text("utf-8") != text]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, by default with the arguments of the process, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.dashboards", description="Write Grafana's dashboards.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a file is not up to date")
    if parser.parse_args(arguments).check:
        for path in outdated():
            sys.stderr.write(f"{path} is not what monitoring/dashboards makes; run python -m monitoring.dashboards\n")
        return 1 if outdated() else 0
    for path, text in render_all().items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
