"""The document of the fault matrix: what was played is written anew, the rest stays."""

from pathlib import Path

import pytest

from tests.chaos import matrix
from tests.chaos.matrix import Result


def result(fault: str, measured: float = 1.0) -> Result:
    return Result(fault, "all | of it", 5, measured, "holds")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "fault-matrix.md"
    results = [result("one"), result("many: 2 s, seed 1"), result("many: 2 s, seed 2"), result("three")]
    matrix.write(path, results, whole=True)
    return path


def rows(page: Path) -> list[str]:
    return [line for line in page.read_text().splitlines() if line.startswith("| ")][2:]


def test_a_part_replaces_its_rows_where_they_stood(page: Path) -> None:
    one, _, _, three = rows(page)
    matrix.write(page, [result("many: 9 s, seed 3", 2.0), result("new")], whole=False)

    assert rows(page) == [
        one,
        "| many: 9 s, seed 3 | all \\| of it | 5 | 2.00 | holds |",
        three,
        "| new | all \\| of it | 5 | 1.00 | holds |",
    ]


def test_the_whole_replaces_everything(page: Path) -> None:
    matrix.write(page, [result("new")], whole=True)

    assert len(rows(page)) == 1


def test_a_part_of_nothing_is_a_page_too(tmp_path: Path) -> None:
    path = tmp_path / "fault-matrix.md"
    matrix.write(path, [result("new")], whole=False)

    assert len(rows(path)) == 1


def test_each_machine_and_day_that_measured_is_named_once(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    for _ in range(2):
        matrix.write(page, [result("one")], whole=False)

    assert page.read_text().count(matrix.ON_ONE_MACHINE) == 2
