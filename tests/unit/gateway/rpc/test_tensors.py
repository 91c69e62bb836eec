"""Tensors of messages: what is wrong with them has the text that HTTP answers."""

from typing import Any
from unittest.mock import Mock

import pytest

from gateway.api.statuses import problem_of
from gateway.catalog.row_parser import RowParser
from gateway.catalog.served_model import ServedModel
from gateway.errors import RequestError
from gateway.oip.rows import rows_of
from gateway.oip.tensors import InferRequest, read_request
from gateway.problems import error_text
from gateway.rpc.messages import INFERENCE, message_class
from gateway.rpc.tensors import infer_request
from tests.support.manifests import feature, mixed

pytestmark = pytest.mark.unit

MANIFEST = mixed(feature("length"), feature("width"))
SERVED = ServedModel(MANIFEST, RowParser(MANIFEST, 3), Mock())
VALUES_MAX = 6


def over_http(names: list[str]) -> InferRequest:
    inputs = ",".join(f'{{"name": "{name}", "datatype": "FP64", "shape": [1], "data": [1.5]}}' for name in names)
    return read_request(f'{{"inputs": [{inputs}]}}'.encode(), None, VALUES_MAX)


def over_grpc(names: list[str]) -> InferRequest:
    message: Any = message_class(INFERENCE, "ModelInferRequest")()
    for name in names:
        message.inputs.add(name=name, datatype="FP64", shape=[1], contents={"fp64_contents": [1.5]})
    return infer_request(message, SERVED, VALUES_MAX)


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (["length", "depth"], "/0/depth"),
        (["length", "width", "depth"], "/0/depth"),
        (["depth", "length", "width", "height"], "/0/height"),
        (["length", "length"], "same name"),
        (["length", "width", "length"], "same name"),
    ],
    ids=str,
)
def test_an_unknown_or_repeated_input_is_told_alike(names: list[str], named: str) -> None:
    texts = []
    for read in (over_http, over_grpc):
        with pytest.raises(RequestError) as refused:
            rows_of(read(names).inputs, MANIFEST.features, SERVED.parser, 3)
        texts.append(error_text(problem_of(refused.value)))

    assert texts[0] == texts[1]
    assert named in texts[0]
