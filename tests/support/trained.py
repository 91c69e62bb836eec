from collections.abc import Iterator
from pathlib import Path

import pytest
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from headrace.models.store import ModelStore
from training.dataset import Dataset, load_iris
from training.pipeline import build_estimator


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Limit computations to one thread: on data as small as that of the tests, threads cost more than they save."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def iris() -> Dataset:
    return load_iris()


@pytest.fixture(scope="session")
def fitted(iris: Dataset) -> LogisticRegression:
    return build_estimator().fit(iris.rows, iris.targets)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")
