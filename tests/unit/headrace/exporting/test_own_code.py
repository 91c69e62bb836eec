"""Estimators of the exporter's own modules."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier

from headrace import NotExportable, export
from headrace.errors import ArtifactInvalid
from headrace.exporting import artifact
from headrace.models.store import ModelStore
from worker.model.allow_list import AllowList
from worker.model.predictor import Predictor

X = np.array([[0.0], [1.0]] * 3)


def of_module(name: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Any:
    """Return a fitted estimator whose class is of a module in a folder, which is importable in this test only."""
    made = ModuleType(name)
    made.__file__ = str(folder / f"{name.replace('.', '/')}.py")
    kind = type("Own", (DummyClassifier,), {"__module__": name})
    made.Own = kind  # type: ignore[attr-defined]
    for module in (name.partition(".")[0], name):
        monkeypatch.setitem(sys.modules, module, made)
    return kind().fit(X, ["a", "b"] * 3)


@pytest.mark.parametrize("package", sorted(artifact.SERVICE_PACKAGES - {"headrace", "tests"}))
@pytest.mark.parametrize("inner", ["", ".models"])
def test_a_package_that_the_service_shadows_is_refused(
    package: str, inner: str, store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = of_module(package + inner, monkeypatch, tmp_path)

    with pytest.raises(NotExportable, match=f"parts of your '{package}', and the service has a package of that name"):
        export(estimator, X, name="m", store=store, extra_modules=(package,))
    with pytest.raises(NotExportable, match=f"parts of your '{package}'"):
        export(estimator, X, name="m", store=store)


def test_a_worker_without_the_module_says_how_to_give_it(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = of_module("my_features", monkeypatch, tmp_path)
    manifest = export(estimator, X, name="m", store=store, extra_modules="my_features").manifest
    monkeypatch.undo()

    with pytest.raises(
        ArtifactInvalid, match=r"needs the module 'my_features', which this worker can't import: .*PYTHONPATH"
    ):
        Predictor.load(store, manifest, AllowList(modules=frozenset(["my_features"])))
