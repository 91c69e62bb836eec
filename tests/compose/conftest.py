"""One engine and one build of the images for all tests of this folder, which run in one process."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.clone import make_clone, use_package_index
from tests.compose.engine import Engine, running_engine
from tests.compose.stand_ins import provide_images


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with running_engine(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


@pytest.fixture(scope="session")
def built(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of which the images are built."""
    folder = tmp_path_factory.mktemp("compose") / "headrace"
    make_clone(folder)
    use_package_index(folder)
    provide_images(engine, folder)
    engine.docker("compose", "build", folder=folder)
    return folder


@pytest.fixture(scope="module")
def clone(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(built, tmp_path_factory.mktemp("clone") / "headrace")
