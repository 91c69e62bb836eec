"""The locks belong together, to pyproject.toml, and to no package index."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

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
LOCKS = ["dev", "gateway", "worker", "exporter"]
HASH = re.compile(r" {4}--hash=sha256:[0-9a-f]{64}( \\)?")


def entries(lock: str) -> Iterator[tuple[str, list[str]]]:
    """Every requirement with the lines below it, comments left out."""
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
    """Package -> version on a Python."""
    requirements = [Requirement(text) for text, _ in entries(lock)]
    found = [requirement for requirement in requirements if applies(requirement, python)]
    names = [canonicalize_name(requirement.name) for requirement in found]
    assert len(set(names)) == len(names), "a package is pinned twice"
    return {name: str(requirement.specifier).removeprefix("==") for name, requirement in zip(names, found, strict=True)}


def declared(*extras: str) -> list[Requirement]:
    """What pyproject.toml asks for, with extras."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    optional: dict[str, list[str]] = project["optional-dependencies"]
    known = {"gateway", "worker", "training", "s3", "tracing", "local", "dev"}
    assert set(optional) == known, "say here which lock holds a new extra"
    return [
        Requirement(text) for group in (project["dependencies"], *map(optional.get, extras)) for text in group or []
    ]


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
@pytest.mark.parametrize("lock", ["gateway", "worker"])
def test_images_get_what_was_tested(lock: str, python: str) -> None:
    tested = pins("dev", python)

    assert pins(lock, python).items() <= tested.items()


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("gateway", ["gateway", "s3", "tracing"]),
        ("worker", ["worker", "training", "s3", "tracing"]),
        ("dev", ["gateway", "worker", "training", "s3", "tracing", "local", "dev"]),
    ],
)
def test_locks_answer_pyproject(lock: str, extras: list[str], python: str) -> None:
    locked = pins(lock, python)
    for requirement in declared(*extras):
        if applies(requirement, python):
            version = locked.get(canonicalize_name(requirement.name))
            assert version is not None, f"{requirement} is not in {lock}.txt: make lock"
            assert requirement.specifier.contains(version, prereleases=True), f"{requirement}, not {version}: make lock"


@pytest.mark.parametrize("python", PYTHONS)
def test_the_gateway_knows_no_model_library(python: str) -> None:
    assert not {"scikit-learn", "numpy", "scipy", "joblib", "threadpoolctl"} & pins("gateway", python).keys()


def test_the_exporter_keeps_to_the_celery_that_it_knows() -> None:
    assert pins("exporter", "3.12")["celery"] == "5.5.3"
    assert pins("exporter", "3.13") == {}
