"""The locks agree with each other and with pyproject.toml, and name no package index."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REQUIREMENTS = Path("requirements")
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
LOCKS = ["dev", "runtime", "gateway", "worker", "exporter", "mlflow", "audit"]
EXTRAS = ["export", "mlflow", "s3", "sign"]
GROUPS = ["gateway", "grpc", "worker", "training", "tracing", "local", "dev"]
HASH = re.compile(r" {4}--hash=sha256:[0-9a-f]{64}( \\)?")


def entries(lock: str) -> Iterator[tuple[str, list[str]]]:
    """Yield every requirement with the lines below it, without comments."""
    lines = [
        line for line in (REQUIREMENTS / f"{lock}.txt").read_text().splitlines() if not line.lstrip().startswith("#")
    ]
    starts = [number for number, line in enumerate(lines) if not line.startswith(" ")]
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield lines[start].removesuffix(" \\"), lines[start + 1 : end]


def applies(requirement: Requirement, python: str) -> bool:
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.9"}
    environment |= {"sys_platform": "linux", "platform_python_implementation": "CPython", "extra": ""}
    return requirement.marker is None or requirement.marker.evaluate({k: str(v) for k, v in environment.items()})


def pins(lock: str, python: str) -> dict[str, str]:
    """Return package -> version for a Python."""
    requirements = [Requirement(text) for text, _ in entries(lock)]
    found = [requirement for requirement in requirements if applies(requirement, python)]
    names = [canonicalize_name(requirement.name) for requirement in found]
    assert len(set(names)) == len(names), "a package is pinned twice"
    return {name: str(requirement.specifier).removeprefix("==") for name, requirement in zip(names, found, strict=True)}


def declared(extras: list[str], groups: list[str]) -> list[Requirement]:
    """Return the requirements of pyproject.toml, with extras and dependency groups."""
    document = tomllib.loads(Path("pyproject.toml").read_text())
    optional: dict[str, list[str]] = document["project"]["optional-dependencies"]
    assert set(optional) == set(EXTRAS), "say here which lock holds a new extra"
    assert set(document["dependency-groups"]) == {"shared", *GROUPS}, "say here which lock holds a new group"
    listed = [document["project"]["dependencies"], *map(optional.__getitem__, extras)]
    listed += [members(document["dependency-groups"], group) for group in groups]
    return [Requirement(text) for texts in listed for text in texts]


def members(groups: dict[str, Any], name: str) -> list[str]:
    """Return the requirements of a dependency group and of the groups that it includes."""
    found: list[str] = []
    for entry in groups[name]:
        found += [entry] if isinstance(entry, str) else members(groups, entry["include-group"])
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_is_exact_and_hashed(lock: str) -> None:
    for text, hashes in entries(lock):
        assert re.fullmatch(r"[a-z0-9.-]+==[^ *]+( ; .+)?", text), text
        assert hashes, f"{text} has no hash"
        assert all(HASH.fullmatch(line) for line in hashes), text


@pytest.mark.parametrize("lock", LOCKS)
def test_no_index_is_named(lock: str) -> None:
    text = (REQUIREMENTS / f"{lock}.txt").read_text()

    assert "://" not in text
    assert not re.search(r"^\s*-(?!-hash=)", text, re.MULTILINE), "an option that is not a hash"


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", ["runtime", "gateway", "worker"])
def test_what_runs_is_what_was_tested(lock: str, python: str) -> None:
    tested = pins("dev", python)

    assert pins(lock, python).items() <= tested.items()


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("lock", "extras", "groups"),
    [
        ("gateway", ["s3", "sign"], ["gateway", "grpc", "tracing"]),
        ("worker", EXTRAS, ["worker", "training", "tracing"]),
        ("runtime", EXTRAS, [group for group in GROUPS if group != "dev"]),
        ("dev", EXTRAS, GROUPS),
    ],
)
def test_locks_answer_pyproject(lock: str, extras: list[str], groups: list[str], python: str) -> None:
    locked = pins(lock, python)
    for requirement in declared(extras, groups):
        if applies(requirement, python):
            version = locked.get(canonicalize_name(requirement.name))
            assert version is not None, f"{requirement} is not in {lock}.txt: make lock"
            assert requirement.specifier.contains(version, prereleases=True), f"{requirement}, not {version}: make lock"


@pytest.mark.parametrize("python", PYTHONS)
def test_the_base_of_the_sdk_brings_no_library_of_the_service(python: str) -> None:
    names = {canonicalize_name(each.name) for each in declared([], []) if applies(each, python)}

    assert names == {"fsspec", "httpx", "orjson", "pydantic"}


@pytest.mark.parametrize("python", PYTHONS)
def test_the_gateway_knows_no_model_library(python: str) -> None:
    assert not {"scikit-learn", "numpy", "scipy", "joblib", "threadpoolctl"} & pins("gateway", python).keys()


def test_running_needs_no_tools_of_development() -> None:
    assert not {"pytest", "mypy", "ruff", "moto", "schemathesis", "hypothesis"} & pins("runtime", "3.12").keys()


def test_the_exporter_keeps_to_the_celery_that_it_knows() -> None:
    assert pins("exporter", "3.12")["celery"] == "5.5.3"
    assert pins("exporter", "3.13") == {}
