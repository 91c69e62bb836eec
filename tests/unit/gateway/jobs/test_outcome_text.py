from typing import Any

import orjson
import pytest

from gateway.jobs.outcome_text import BLOCK_BYTES, outcome_text

OUTPUTS = [["a", ["x", "y"]]]
SEVERAL = [["a", ["x", "y"]], ["b", ["x", "y"]]]
MISLEADING = ["a,b", '","', "],[", "]],[[", ',"outputs":[', '"],"probabilities":[[', "\\", "\0", "é", ""]
SHARES = [0.1, 1e-300]


def read(outcome: dict[str, Any]) -> tuple[int, list[Any], list[Any]]:
    """The number of blocks that an outcome is read in, and its predictions and probabilities."""
    text = outcome_text(orjson.dumps(outcome))
    assert text is not None and text.outputs == outcome["outputs"]
    blocks = list(text.blocks())
    predictions = [row for block in blocks for row in block["predictions"]]
    return len(blocks), predictions, [row for block in blocks for row in block["probabilities"] or ()]


@pytest.mark.parametrize(
    ("outputs", "prediction", "probabilities"),
    [
        (OUTPUTS, 0.12345678901234567, None),
        (OUTPUTS, "x", SHARES),
        (SEVERAL, ["x", 1], [SHARES, SHARES]),
        (SEVERAL, [0.5, None], None),
    ],
)
@pytest.mark.parametrize("rows", [0, 1, BLOCK_BYTES])
def test_an_outcome_is_read_in_blocks(outputs: Any, prediction: Any, probabilities: Any, rows: int) -> None:
    predictions = [prediction] * rows
    shares = None if probabilities is None else [probabilities] * rows

    outcome = {"predictions": predictions, "probabilities": shares, "outputs": outputs}
    n_blocks, *read_back = read(outcome)

    assert read_back == [predictions, shares or []]
    assert n_blocks == 0 if not rows else n_blocks >= len(orjson.dumps(outcome)) // (2 * BLOCK_BYTES)


@pytest.mark.parametrize("label", MISLEADING)
@pytest.mark.parametrize("outputs", [OUTPUTS, SEVERAL])
def test_a_text_that_looks_like_the_end_of_a_row_is_none(label: str, outputs: list[Any]) -> None:
    outputs = [[name + label, [label, "y"]] for name, _ in outputs]
    predictions: list[Any] = [label, "y"] * BLOCK_BYTES
    if len(outputs) > 1:
        predictions = [["y", label], [label, label]] * BLOCK_BYTES

    outcome = {"predictions": predictions, "probabilities": None, "outputs": outputs}
    assert read(outcome)[1] == predictions


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b'{"predictions":[1],"outputs":[]}',
        b'{"predictions":[1],"probabilities":null,"outputs":[}',
        b'{"predictions":[1],"probabilities":null,"outputs":[]} ',
        b'{"outputs":[["a",null]],"predictions":[1],"probabilities":null}',
        b'{"error":{"message":",\\"probabilities\\":"}}',
    ],
)
def test_members_that_no_worker_writes_are_not_taken_apart(text: bytes) -> None:
    assert outcome_text(text) is None


@pytest.mark.parametrize("members", [b"1", b"[1", b"[1,]", b"[1]]", b"", b'["a]', b"{}"])
@pytest.mark.parametrize("place", ["predictions", "probabilities"])
def test_damage_is_noticed(members: bytes, place: str) -> None:
    predictions, probabilities = (members, b"null") if place == "predictions" else (b"[1]", members)
    text = outcome_text(b'{"predictions":%b,"probabilities":%b,"outputs":[["a",null]]}' % (predictions, probabilities))

    assert text is not None
    with pytest.raises(ValueError):
        list(text.blocks())
