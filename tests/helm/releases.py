"""The releases that the tests look at: one for each of the chart's values files."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.helm import CHART, objects

VALUES = {path.stem.removesuffix("-values"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))}

each_release = pytest.mark.parametrize("name", VALUES)


def values(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(Path(VALUES[name]).read_text("utf-8"))
    return content


@lru_cache
def release(name: str) -> list[dict[str, Any]]:
    return objects(values(name))


def of_kind(name: str, *kinds: str) -> list[dict[str, Any]]:
    return [each for each in release(name) if each["kind"] in kinds]


def the(name: str, kind: str, suffix: str = "") -> dict[str, Any]:
    """Return the only object of a kind whose name has this suffix."""
    [found] = [each for each in of_kind(name, kind) if each["metadata"]["name"].endswith(suffix)]
    return found


def owners(name: str) -> list[dict[str, Any]]:
    """Return the objects that make pods."""
    return of_kind(name, "Deployment", "StatefulSet", "Job")


def pods(name: str) -> Iterator[tuple[str, dict[str, str], dict[str, Any]]]:
    """Yield component, labels and spec of each pod."""
    for owner in owners(name):
        template = owner["spec"]["template"]
        labels = template["metadata"]["labels"]
        yield labels["app.kubernetes.io/component"], labels, template["spec"]


def containers(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield component and spec of each container."""
    for component, _, spec in pods(name):
        assert "initContainers" not in spec
        for container in spec["containers"]:
            yield component, container


def environment(container: dict[str, Any]) -> dict[str, Any]:
    """Return the variables of a container: texts, or the reference to a secret."""
    names = [variable["name"] for variable in container["env"]]
    assert len(names) == len(set(names)), "a variable stands there twice"
    return {variable["name"]: variable.get("value", variable.get("valueFrom")) for variable in container["env"]}
