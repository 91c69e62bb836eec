"""One arena for most rows, the oracle after each, and the matrix of the measurements."""

import os
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from tests.chaos import matrix
from tests.chaos.arena import Arena
from tests.integration.conftest import broker_program, puppet_models  # noqa: F401 - fixtures
from tests.support.stack import Stack

WHOLE = "HEADRACE_CHAOS"
"""Environment variable, set by `make chaos`, which also plays rows that are long or need root."""

MATRIX = "HEADRACE_FAULT_MATRIX"
"""Environment variable: the file to which the matrix is written."""

PART = "HEADRACE_FAULT_MATRIX_PART"
"""Environment variable: set if only a part of the matrix is played, and the other rows of that file stay."""

Measure = Callable[[float], None]
Remark = Callable[[str], None]
MEASURED = "measured_seconds"
REMARK = "remark"
FAILED = pytest.StashKey[bool]()
RESULTS = pytest.StashKey[dict[str, matrix.Result]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get(WHOLE) == "1":
        return
    left_out = [item for item in items if item.get_closest_marker("whole_chaos")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


class _Arenas:
    """The arena that rows share. An arena that a row has left broken is replaced."""

    def __init__(self, folders: pytest.TempPathFactory, models: Path) -> None:
        self._folders = folders
        self._models = models
        self._arena: Arena | None = None

    def get(self) -> Arena:
        if self._arena is None:
            self._arena = Arena(self._folders.mktemp("arena"), self._models)
            self._arena.start()
        return self._arena

    def discard(self) -> None:
        if self._arena is not None:
            arena, self._arena = self._arena, None
            arena.close()


@pytest.fixture(scope="session")
def _arenas(tmp_path_factory: pytest.TempPathFactory, puppet_models: Path) -> Iterator[_Arenas]:  # noqa: F811
    arenas = _Arenas(tmp_path_factory, puppet_models)
    yield arenas
    arenas.discard()


@pytest.fixture
def arena(request: pytest.FixtureRequest, _arenas: _Arenas) -> Iterator[Arena]:
    """Two workers of two children each, and a proxy each between gateway, workers and broker."""
    arena = _arenas.get()
    arena.begin()
    yield arena
    if request.node.stash.get(FAILED, False):
        # Its jobs and faults would affect the next row.
        _arenas.discard()
        return
    try:
        arena.restore()
    except BaseException:
        _arenas.discard()
        raise


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Measure:
    """Return a function that records the seconds of a row and compares them with the row's bound."""
    marker = request.node.get_closest_marker("fault")
    began = time.monotonic()

    def take(seconds: float) -> None:
        request.node.user_properties.append((MEASURED, seconds))
        lost = max(
            (each.lost(began) for each in request.node.funcargs.values() if isinstance(each, Arena)), default=0.0
        )
        assert seconds <= marker.kwargs["within"] + lost, f"took {seconds:.2f} s of {marker.kwargs['within']:g} s"

    return take


@pytest.fixture
def remark(request: pytest.FixtureRequest) -> Remark:
    """Return a function that records a short note about a row."""
    return lambda text: request.node.user_properties.append((REMARK, text))


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Let the oracle decide after each row."""
    result = yield
    arena = pyfuncitem.funcargs.get("arena")
    if isinstance(arena, Arena):
        arena.check()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    marker = item.get_closest_marker("fault")
    if marker is not None and (report.when == "call" or report.skipped or report.failed):
        properties = dict(item.user_properties)
        measured = properties.get(MEASURED)
        note = str(properties.get(REMARK, ""))
        if isinstance(report.longrepr, tuple):
            note = str(report.longrepr[2]).removeprefix("Skipped: ")
        item.config.stash[RESULTS][item.nodeid] = matrix.Result(
            f"{marker.args[0]}: {item.callspec.id}" if hasattr(item, "callspec") else marker.args[0],
            marker.args[1],
            marker.kwargs.get("within"),
            float(measured) if isinstance(measured, (int, float)) else None,
            {"passed": "holds", "failed": "**broken**", "skipped": "not played"}[report.outcome],
            note,
        )
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            stack = value.stack if isinstance(value, Arena) else value
            if isinstance(stack, Stack):
                report.sections.append(("stack", stack.logs()[-20_000:]))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    results = list(config.stash[RESULTS].values())
    if results and os.environ.get(WHOLE) == "1":
        terminalreporter.section("fault matrix")
        for line in matrix.text(results):
            terminalreporter.write_line(line)
    if results and os.environ.get(MATRIX):
        matrix.write(Path(os.environ[MATRIX]), results, whole=PART not in os.environ)
