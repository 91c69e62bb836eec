"""Marks every test by its folder."""

import gc
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer

    from tests.support.scheduling import FolderScheduling

# Its assertions explain themselves only if pytest rewrites them.
pytest.register_assert_rewrite("tests.support.store_contract")

# Several processes of tests share the cores, and OpenMP's threads would wait for each other in loops.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(Path(item.path).relative_to(FOLDER).parts[0])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "FolderScheduling | None":
    from tests.support.scheduling import FolderScheduling

    return FolderScheduling(config, log) if config.getoption("dist") == "loadscope" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    # Some 2 million objects live from here to the end: the garbage collector need not look at them again and again.
    gc.disable()
    yield
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Take back what a command under test has configured: its handler writes to a stream that the test closes."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    if root.handlers != handlers:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(False)
