from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.support.estimators import people
from training.errors import DatasetInvalid
from training.tabular_file import read_dataset


def csv(folder: Path, frame: Any) -> Path:
    path = folder / "table.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["a", "b"], "classification", ["a", "b"]),
        ([True, False], "classification", [False, True]),
        ([1, 2], "classification", [1, 2]),
        ([1.0, 2.0, None], "classification", [1, 2]),
        ([0.5, 1.0], "regression", None),
        (list(range(21)), "regression", None),
    ],
)
def test_the_target_says_the_task(tmp_path: Path, values: list[Any], task: str, classes: list[Any] | None) -> None:
    frame = pd.DataFrame({"x": np.arange(len(values) * 4.0), "y": values * 4})

    dataset = read_dataset(csv(tmp_path, frame), "csv", target="y")

    assert dataset.task == task
    if classes is not None:
        found = np.unique(dataset.targets).tolist()
        assert [(type(each), each) for each in found] == [(type(each), each) for each in classes]
    if None in values:
        assert dataset.notes == ("4 rows left out: they have no y",)


def test_parquet_and_csv_tell_the_same(tmp_path: Path) -> None:
    frame, target = people()
    frame = frame.assign(outcome=target)
    frame.to_parquet(tmp_path / "table.parquet")

    parquet = read_dataset(tmp_path / "table.parquet", "parquet", target="outcome")
    text = read_dataset(csv(tmp_path, frame), "csv", target="outcome")

    assert parquet.feature_names == text.feature_names
    assert parquet.targets.tolist() == text.targets.tolist()


def test_columns_of_no_use_are_left_out_and_named(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "x": np.arange(60.0),
            "key": [f"k{i}" for i in range(60)],
            "nothing": None,
            "when": pd.date_range("2026-01-01", periods=60),
            "y": [0, 1] * 30,
        }
    )
    frame.to_parquet(tmp_path / "table.parquet")

    dataset = read_dataset(tmp_path / "table.parquet", "parquet", target="y", leave_out=["nothing"])

    assert dataset.feature_names == ("x",)
    assert [note.split(":")[0] for note in dataset.notes] == ["left out", "left out"]
    assert "'key'" in dataset.notes[0] and "'when'" in dataset.notes[1]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "not readable as csv: No columns"),
        (b"\xff\xfe\x00", "not readable as csv"),
        (b"x,y\n", "no row has a y"),
        (b"x,y\n1,a\n2,a\n", "y is always a: there is nothing to learn"),
        (b"x,y\nk,a\n,b\n", None),
        (b"x,y\n,a\n,b\n", "no column can be a feature: left out: column 'x' holds no values"),
    ],
)
def test_files_that_can_not_be_trained_from(tmp_path: Path, content: bytes, complaint: str | None) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)

    if complaint is None:
        assert read_dataset(path, "csv", target="y").feature_names == ("x",)
        return
    with pytest.raises(DatasetInvalid, match=complaint) as caught:
        read_dataset(path, "csv", target="y")
    assert "\n" not in str(caught.value)
