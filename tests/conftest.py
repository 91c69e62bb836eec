"""Marks every test by its folder."""

from pathlib import Path

import pytest

# Its assertions explain themselves only if pytest rewrites them.
pytest.register_assert_rewrite("tests.support.store_contract")

FOLDER = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(Path(item.path).relative_to(FOLDER).parts[0])
