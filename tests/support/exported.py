"""Versions that `export` makes of the estimators of the tests, once for all processes of a test run."""

import fcntl
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from headrace.exporting.exporter import export
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from tests.support.estimators import CASES, Case

Exported = Callable[[str], tuple[ModelStore, Manifest]]


@cache
def fitted(name: str) -> Case:
    """Return a case, fitted once in this process."""
    return CASES[name]()


def model_name(name: str) -> str:
    """Return the name of a case as a name of a model."""
    return name.replace(" ", "-")


def folder_of_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all processes of this test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if base.name.startswith("popen-") else base


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A function that returns the version that `export` makes of a case; tests must not change it."""
    folder = folder_of_run(tmp_path_factory) / "exported"
    folder.mkdir(exist_ok=True)
    store = ModelStore(folder / "models")

    @cache
    def get(case_name: str) -> tuple[ModelStore, Manifest]:
        name, case = model_name(case_name), fitted(case_name)
        with (folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if "v1" not in store.versions(name):
                export(case.estimator, case.X, case.y, store=store, name=name, version="v1")
            return store, store.manifest(name, "v1")

    return get
