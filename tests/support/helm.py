"""Helm's engine, which renders the chart: that of the package helm-python-sdk, or a `helm` in PATH."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from tests.support.requirements import require

CHART = Path(__file__).parents[2] / "deploy/helm/headrace"
RELEASE, NAMESPACE = "demo", "serving"

#: In a process of its own: the engine is a library in Go, whose threads and signal handlers no test should inherit.
RENDER = """
import json, sys
import helm_python

chart, release, namespace = sys.argv[1:]
with helm_python.Chart.load(chart) as loaded:
    try:
        files = loaded.render(json.load(sys.stdin), name=release, namespace=namespace)
    except helm_python.HelmError as error:
        sys.exit(str(error))
json.dump(files, sys.stdout)
"""


class ChartRefusedError(Exception):
    """A refusal of values by the chart."""


def render(values: Mapping[str, Any], release: str = RELEASE) -> dict[str, str]:
    """Return what Helm makes of each template.

    Raises:
        ChartRefusedError: With Helm's reason, if it refuses the values.
    """
    return _render(json.dumps(values), release)


def objects(values: Mapping[str, Any], release: str = RELEASE) -> list[dict[str, Any]]:
    """Return the objects that Helm would send to a cluster."""
    texts = [text for name, text in render(values, release).items() if not name.endswith(".txt")]
    return [content for text in texts for content in yaml.safe_load_all(text) if content]


@lru_cache
def _render(values: str, release: str) -> dict[str, str]:
    if find_spec("helm_python"):
        made: dict[str, str] = json.loads(_run([sys.executable, "-c", RENDER, str(CHART), release, NAMESPACE], values))
        return made
    helm = shutil.which("helm")
    require(helm is not None, "neither helm-python-sdk nor helm is installed")
    assert helm is not None
    text = _run([helm, "template", release, str(CHART), "--namespace", NAMESPACE, "--values", "-"], values)
    parts = re.split(r"^---\n# Source: (.+)$", text, flags=re.MULTILINE)[1:]
    files: dict[str, str] = {}
    for name, content in zip(parts[::2], parts[1::2], strict=True):
        files[name] = f"{files[name]}\n---\n{content}" if name in files else content
    return files


def _run(command: list[str], values: str) -> str:
    ran = subprocess.run(command, input=values, capture_output=True, text=True, check=False, timeout=120)
    if ran.returncode:
        raise ChartRefusedError(ran.stderr)
    return ran.stdout
