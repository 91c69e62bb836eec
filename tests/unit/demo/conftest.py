from typing import Any

import pytest

from demo.model import Model
from headrace.data.features import describe
from headrace.data.table import read_table
from headrace.models.manifest import Manifest
from tests.support import manifests
from tests.support.estimators import people


def told(manifest: Manifest) -> dict[str, Any]:
    """As `/model-info` tells it, as far as it matters."""
    return manifest.model_dump(mode="json", include={"name", "version", "features", "samples"})


def model(manifest: Manifest) -> Model:
    return Model(manifest.name, manifest.version, "", manifest.features, manifest.samples)


@pytest.fixture(scope="session")
def mixed() -> Model:
    """Whole and other numbers, texts, booleans, all of them sometimes missing; described as an export does it."""
    frame, _ = people(2_000)
    features = [describe(column) for column in read_table(object(), frame).columns]
    return Model("people", "v1", "", features, [])


@pytest.fixture
def sticks() -> Model:
    return model(manifests.classifier())
