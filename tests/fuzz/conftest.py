"""Stacks that require API keys and serve their OpenAPI document all the same."""

import os
from collections.abc import Iterator

import pytest

from headrace import export
from headrace.models.store import ModelStore
from tests.integration.conftest import broker_program, pytest_runtest_makereport  # noqa: F401 - fixtures
from tests.support.api_keys import new_key
from tests.support.estimators import CASES
from tests.support.fuzz_options import EXAMPLES, SEED
from tests.support.stack import Stack

SCOPES = ("predict", "jobs", "read", "metrics")


# One model of numbers, and one of numbers, texts and booleans with missing values.
@pytest.fixture(scope="session", params=["logistic regression", "mixed frame"])
def stack(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Start a stack whose client has every scope."""
    folder = tmp_path_factory.mktemp("stack")
    case = CASES[request.param]()
    export(case.estimator, case.X, case.y, name="fuzzed", store=ModelStore(folder / "models"))
    keys = folder / "api-keys"
    options = {"API_KEYS_FILE": str(keys), "DOCS_ENABLED": "true", "DEFAULT_MODEL": "fuzzed"}
    # No generated wait may last for long, and a busy machine must have time to answer.
    options |= {"PREDICT_DEADLINE_SECONDS": "10", "WAIT_MAX_SECONDS": "10"}
    stack = Stack(folder, folder / "models", **options)  # type: ignore[arg-type]
    stack.http.headers.update(new_key(keys, "anyone", *(word for scope in SCOPES for word in ("--scope", scope))))
    try:
        yield stack.start()
    finally:
        stack.close()


@pytest.fixture
def examples() -> int:
    return int(os.environ.get(EXAMPLES, "8"))


@pytest.fixture
def seed() -> int:
    return int(os.environ.get(SEED, "1"))
