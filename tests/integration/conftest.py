"""Stacks for the tests: one that all may use, and new ones for tests that break something."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import pytest

from headrace import export
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from scripts.broker import find_server
from scripts.refusal import Refusal
from tests.support.puppet import Act, Puppet
from tests.support.requirements import require
from tests.support.stack import Stack

NewStack = Callable[..., Stack]


@pytest.fixture(scope="session", autouse=True)
def broker_program() -> str:
    try:
        return find_server()
    except Refusal as refusal:
        require(False, str(refusal))
        raise


@pytest.fixture(scope="session")
def iris_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from training.command import main as train

    folder = tmp_path_factory.mktemp("iris")
    assert train(["--store", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def puppet_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("puppet")
    rows = np.array([[-1.0, Act.ANSWER], [1.0, Act.ANSWER]] * 5)
    estimator = Puppet().fit(rows, np.array(["low", "high"] * 5))
    export(
        estimator,
        rows,
        store=ModelStore(folder),
        name="puppet",
        feature_names=["value", "act"],
        scores={},
        extra_modules=["tests"],
    )
    return folder


@pytest.fixture(scope="session")
def iris(iris_models: Path) -> Manifest:
    return ModelStore(iris_models).manifest("iris")


@pytest.fixture(scope="session")
def shared_stack(tmp_path_factory: pytest.TempPathFactory, iris_models: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("stack"), iris_models, PREDICT_DEADLINE_SECONDS="10")
    try:
        yield stack.start()
    finally:
        stack.close()


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    """Return the stack that all tests share; they leave it as it is."""
    return shared_stack


@pytest.fixture
def new_stack(tmp_path: Path) -> Iterator[NewStack]:
    """Yield a function that makes stacks for one test, and close them."""
    made: list[Stack] = []

    def make(models: Path, **options: str) -> Stack:
        folder = tmp_path / f"stack{len(made)}"
        folder.mkdir()
        stack = Stack(folder, models, **options)  # type: ignore[arg-type]
        made.append(stack)
        return stack

    yield make
    for stack in made:
        stack.close()


@pytest.fixture
def puppet_folder(tmp_path: Path) -> Path:
    """Return the folder in which the puppet leaves its marks."""
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of the processes with a failure."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if logs := getattr(value, "logs", None):
                report.sections.append(("stack", logs()[-20_000:]))
    return report
