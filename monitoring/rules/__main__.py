"""`python -m monitoring.rules`: write Prometheus' rules, or check with `--check` that they are up to date."""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from monitoring.rules import alerts_model, alerts_platform, alerts_queue, drift, scaling, slo

FOLDER = Path(__file__).parents[1] / "prometheus" / "rules"

CHART_FOLDER = Path(__file__).parents[2] / "deploy" / "helm" / "headrace" / "files" / "rules"
"""The Helm chart's copies: a chart reads no file outside of its folder."""

FILES: dict[str, Callable[[], dict[str, Any]]] = {
    "alerts_model.yml": alerts_model.rules,
    "alerts_platform.yml": alerts_platform.rules,
    "alerts_queue.yml": alerts_queue.rules,
    "drift.yml": drift.rules,
    "scaling.yml": scaling.rules,
    "slo.yml": slo.rules,
}
"""File name -> function that makes its content."""


class _Dumper(yaml.SafeDumper):
    """A YAML writer that keeps the lines of a text."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def dump(rules: Mapping[str, Any]) -> str:
    """Return the content of a rule file."""
    text = yaml.dump(dict(rules), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
    return f"# Made by `python -m monitoring.rules`; changes belong there.\n{text}"


def render() -> dict[Path, str]:
    """Return file and content."""
    return {FOLDER / name: dump(make()) for name, make in FILES.items()}


def render_all() -> dict[Path, str]:
    """Return file and content, with the chart's copies."""
    files = render()
    return files | {CHART_FOLDER / path.name: text for path, text in files.items()}


def outdated() -> list[Path]:
    """Return the committed files that differ from what would be written."""
    return [path for path, text in render_all().items() if not path.is_file() or path.read_text("utf-8") != text]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, by default with the arguments of the process, and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m monitoring.rules", description="Write Prometheus' rules.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a file is not up to date")
    if parser.parse_args(arguments).check:
        for path in outdated():
            sys.stderr.write(f"{path} is not what monitoring/rules makes; run python -m monitoring.rules\n")
        return 1 if outdated() else 0
    for path, text in render_all().items():
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
