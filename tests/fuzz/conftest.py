"""A stack that asks for API keys, and serves its document all the same."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import broker_program, iris_models, pytest_runtest_makereport  # noqa: F401 - fixtures
from tests.support.api_keys import new_key
from tests.support.stack import Stack

EXAMPLES, SEED = "FUZZ_EXAMPLES", "FUZZ_SEED"
"""Environment variables, set by `make fuzz`: examples for each operation and phase, and what they are made up from."""


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "api-keys"


@pytest.fixture(scope="session")
def caller(keys: Path) -> dict[str, str]:
    """The headers of someone who may do anything."""
    return new_key(
        keys, "anyone", *(word for scope in ("predict", "jobs", "read", "metrics") for word in ("--scope", scope))
    )


@pytest.fixture(scope="session")
def stack(
    tmp_path_factory: pytest.TempPathFactory,
    iris_models: Path,  # noqa: F811
    keys: Path,
    caller: dict[str, str],
) -> Iterator[Stack]:
    options = {"API_KEYS_FILE": str(keys), "DOCS_ENABLED": "true", "WAIT_MAX_SECONDS": "10"}
    stack = Stack(tmp_path_factory.mktemp("stack"), iris_models, **options)  # type: ignore[arg-type]
    try:
        yield stack.start()
    finally:
        stack.close()


@pytest.fixture
def examples() -> int:
    return int(os.environ.get(EXAMPLES, "20"))


@pytest.fixture
def seed() -> int:
    return int(os.environ.get(SEED, "1"))
