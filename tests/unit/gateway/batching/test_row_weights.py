from typing import Any

import pytest

from gateway.batching.row_weights import CHARACTERS, RowWeights
from tests.support.manifests import classifier

NUMBER = classifier(["value"]).features[0]
TEXT = NUMBER.model_copy(update={"type": "string"})
LONG = "x" * CHARACTERS


@pytest.mark.parametrize(
    ("rows", "sums"),
    [
        ([[1.0, "a", None]], None),
        ([[1.0, LONG[1:], None]], None),
        ([[1.0, LONG, None]], [2]),
        ([[1.0, LONG[1:], "x"]], [2]),
        ([[None, "a", "b"], [1.0, LONG * 3, LONG * 2], [1.0, "", ""]], [1, 7, 8]),
    ],
)
def test_long_texts_weigh_more(rows: list[list[Any]], sums: list[int] | None) -> None:
    assert RowWeights([NUMBER, TEXT, TEXT]).sums(rows) == sums


def test_numbers_weigh_the_same_whatever_they_are() -> None:
    assert RowWeights([NUMBER, NUMBER]).sums([[1e300, None]] * 5) is None
