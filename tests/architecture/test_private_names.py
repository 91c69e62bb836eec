"""Private names of other libraries: each is listed in `test_internals.py`, and is used in its room only."""

import ast
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.architecture.test_internals import USED
from tests.support.processes import REPOSITORY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACKAGES = ("gateway", "headrace", "shared", "training", "worker")

ROOMS = {
    "billiard": ("worker/consumer/", "worker/metrics/worker.py", "worker/model/loader.py"),
    "celery": ("worker/consumer/",),
    "fsspec": ("headrace/models/remote_storage.py",),
    "hiredis": ("gateway/broker/raw_connection.py",),
    "joblib": ("headrace/loading/unpickler.py",),
    "kombu": ("worker/consumer/",),
    "prometheus_client": ("shared/observability/multiprocess.py",),
    "uvicorn": ("gateway/web/",),
}
"""Library -> the modules of ours that may import any module of it; others may import the documented ones below."""

DOCUMENTED = {
    "celery": ("celery", "celery.exceptions", "celery.signals"),
    "joblib": ("joblib",),
    "kombu": ("kombu",),
    "prometheus_client": (
        *("prometheus_client", "prometheus_client.core", "prometheus_client.exposition"),
        *("prometheus_client.metrics_core", "prometheus_client.registry", "prometheus_client.samples"),
    ),
    "uvicorn": ("uvicorn",),
}

NOT_PRIVATE = {"_exit", "_fields", "_replace"}
"""Documented names that begin with an underscore: of `os`, and of named tuples."""


def trees() -> Iterator[tuple[str, ast.Module]]:
    """Yield the path and the syntax tree of every module of the product."""
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            yield str(path.relative_to(REPOSITORY)), ast.parse(path.read_text())


def listed(module: str) -> set[str]:
    """Return the names of others that a module uses by the list."""
    return {name for names in USED.get(module, {}).values() for name in names.split()}


def private(names: set[str]) -> set[str]:
    return {name for name in names if re.match("_[^_]", name)} - NOT_PRIVATE


def test_every_private_name_of_another_library_is_listed() -> None:
    unlisted = {module: private(foreign_names(tree)) - listed(module) for module, tree in trees()}

    assert {module: names for module, names in unlisted.items() if names} == {}


def foreign_names(tree: ast.Module) -> set[str]:
    """Return the names that a module imports from others, and those of attributes that it does not have itself."""
    own, used = set(), set()
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(origin)) if origin.split(".")[0] not in PACKAGES:
                used |= {alias.name for alias in node.names}
            case ast.Attribute(value=ast.Name("self" | "cls")):
                own.add(node.attr)
            case ast.Attribute(value=ast.Call(func=ast.Name("super"))):
                used.add(node.attr)
            case ast.Attribute():
                used.add(node.attr)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                own.add(node.name)
    return used - own


@cache
def derived_classes() -> list[tuple[type, list[type]]]:
    """Return the classes of the product that have bases in other libraries, with these."""
    found = []
    for package in PACKAGES:
        for module in pkgutil.walk_packages([str(REPOSITORY / package)], f"{package}."):
            if module.name.endswith("__main__"):
                continue
            for each in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(each) and each.__module__ == module.name:
                    bases = [
                        base for base in each.__mro__ if base.__module__.split(".")[0] not in (*PACKAGES, "builtins")
                    ]
                    found += [(each, bases)] if bases else []
    return found


def names_of(each: type) -> set[str]:
    """Return the names that the source of a class gives to its parts."""
    try:
        source = inspect.getsource(each)
    except (OSError, TypeError):
        # Made by a function, or written in C.
        return set(vars(each))
    return set(re.findall(r"(?:\b(?:self|cls|super\(\))\.|^    (?:async )?(?:def )?)(\w+)", source, re.MULTILINE))


def test_a_class_shares_with_its_bases_only_private_names_that_are_listed() -> None:
    """Another private name in common is one that both sides chose by chance: one of them overwrites the other's."""
    assert len(derived_classes()) > 10
    for each, bases in derived_classes():
        common = private(names_of(each) & set().union(*map(names_of, bases)))
        assert common <= listed(f"{each.__module__.replace('.', '/')}.py"), each


def test_an_overridden_method_takes_the_arguments_of_the_one_it_overrides() -> None:
    for each, bases in derived_classes():
        for name, method in vars(each).items():
            base = next((vars(base)[name] for base in bases if name in vars(base)), None)
            if name != "__init__" and inspect.isfunction(method) and inspect.isfunction(base):
                assert takes_the_arguments_of(method, base), f"{each.__module__}.{each.__name__}.{name}"


def takes_the_arguments_of(method: object, base: object) -> bool:
    """Return True if a method can be called as another: in order, and optional arguments by their names too."""
    ours, theirs = (inspect.signature(each).parameters.values() for each in (method, base))  # type: ignore[arg-type]
    if any(each.kind is each.VAR_KEYWORD for each in ours):
        return True
    in_order = [each for each in theirs if each.kind is each.POSITIONAL_OR_KEYWORD]
    named = {each.name for each in theirs if each.default is not each.empty or each.kind is each.KEYWORD_ONLY}
    return len([*ours]) >= len(in_order) and named <= {each.name for each in ours}


def test_a_library_with_internals_is_imported_in_its_room_only() -> None:
    for module, tree in trees():
        for name in imported_modules(tree):
            library = name.split(".")[0]
            if library in ROOMS and name not in DOCUMENTED.get(library, ()):
                assert module.startswith(ROOMS[library]), f"{module} imports {name}"


def imported_modules(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ROOMS:
            origin = importlib.import_module(node.module)
            for alias in node.names:
                found = getattr(origin, alias.name)
                yield found.__name__ if inspect.ismodule(found) else node.module


def test_ruff_allows_private_members_in_listed_modules_only() -> None:
    rules = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert "SLF001" in rules["select"]
    for files, ignored in rules["per-file-ignores"].items():
        if "SLF001" in ignored and files != "tests/**":
            assert any(Path(module).match(files) for module in USED), files


@pytest.mark.parametrize(
    "library", ["billiard", "celery", "hiredis", "joblib", "kombu", "prometheus-client", "redis", "uvicorn"]
)
def test_a_library_with_internals_has_an_upper_bound(library: str) -> None:
    groups = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["dependency-groups"]
    requirements = [each for group in groups.values() for each in group if isinstance(each, str)]
    assert any(re.match(rf"{library}(\[\w+\])?[>=.\d,]*<\d", each) for each in requirements)
