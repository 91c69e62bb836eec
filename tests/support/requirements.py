"""Requirements of tests on their machine.

A test whose requirement is missing is skipped with the reason; with HEADRACE_REQUIRE_ALL=1 it fails.
"""

import os
from collections.abc import Generator

import pytest

REQUIRE_ALL = "HEADRACE_REQUIRE_ALL"


def require(condition: bool, reason: str) -> None:
    """Continue the test only if the machine has what it needs."""
    if condition:
        return
    if _all_required():
        pytest.fail(f"not to be skipped here: {reason}")
    pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Treat skips that did not come through `require` in the same way: `make test` loads this file as a plugin."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and _all_required():
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} is not to be skipped here: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Treat skips of whole modules, as by `pytest.importorskip`, in the same way."""
    report = yield
    if report.skipped and _all_required():
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} is not to be skipped here: {report.longrepr}"
    return report


def _all_required() -> bool:
    return os.environ.get(REQUIRE_ALL) == "1"
