"""Outputs as tensors, in JSON and in bytes."""

from typing import Any

import orjson
import pytest

from gateway.errors import InvalidTensors
from gateway.oip.outputs import OutputTensor, asked_of, encoded_outputs, outputs_of
from gateway.oip.tensors import AskedOutput, InferRequest
from headrace.models.manifest import Manifest, Output, Sample
from shared.queue.replies import PACKED, as_packed, as_text
from tests.support.coroutines import run
from tests.support.manifests import classifier, regressor
from tests.support.tensors import LENGTH
from tests.support.tensors import outputs_of as read_outputs

pytestmark = pytest.mark.unit


class Response:
    """A response with all that the reader of the tests needs."""

    status_code = 200
    text = ""

    def __init__(self, outputs: list[Any], binary: list[bytes]) -> None:
        text = orjson.dumps({"outputs": outputs})
        self.content = b"".join([text, *binary])
        self.headers = {LENGTH: str(len(text))}


def read(result: dict[str, Any], *asked: tuple[OutputTensor, AskedOutput]) -> dict[str, Any]:
    response: Any = Response(*run(encoded_outputs(result, asked)))
    return {name: values.tolist() for name, values in read_outputs(response).items()}


def of_classes(*classes: Any, outputs: int = 1, probabilities: bool = True) -> Manifest:
    output = classifier().outputs[0]
    many = [
        Output(name=f"o{at}", kind="class", classes=[*classes], reference=output.reference) for at in range(outputs)
    ]
    return classifier().model_copy(update={"outputs": many, "probabilities": probabilities, "samples": []})


@pytest.mark.parametrize(("binary", "many"), [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize(
    ("classes", "datatype", "shown"),
    [(["a", "Zürich"], "BYTES", ["a", "Zürich"]), ([3, 7], "INT64", [3, 7]), ([False, True], "BOOL", [False, True])],
)
def test_predictions_and_probabilities_are_tensors(
    binary: bool, many: bool, classes: list[Any], datatype: str, shown: list[Any]
) -> None:
    predict, shares = outputs_of(of_classes(*classes))
    assert (predict.datatype, predict.width, shares.datatype, shares.width) == (datatype, 0, "FP64", 2)
    numbers = [[0.25, 0.75], [1.0, 0.0], [1e-300, 1.0]]
    probabilities: Any = numbers
    if many and binary:
        probabilities = {PACKED: as_packed(numbers[:1])[PACKED] + as_packed(numbers[1:])[PACKED]}
    elif many:
        probabilities = as_text(numbers)
    result = {"predictions": [classes[1], classes[0], classes[1]], "probabilities": probabilities}

    found = read(result, (predict, AskedOutput("output-0", binary)), (shares, AskedOutput("p", binary)))

    assert found == {"output-0": [shown[1], shown[0], shown[1]], "p": numbers}


@pytest.mark.parametrize("binary", [True, False])
def test_several_outputs_of_one_type_are_one_tensor(binary: bool) -> None:
    predict, *shares = outputs_of(of_classes("a", "b", outputs=2))
    assert [each.name for each in shares] == ["predict_proba.o0", "predict_proba.o1"]
    rows = [[[0.5, 0.5], [0.25, 0.75]], [[1.0, 0.0], [0.0, 1.0]]]
    result = {"predictions": [["a", "b"], ["b", "a"]], "probabilities": rows}

    found = read(result, *((each, AskedOutput(each.name, binary)) for each in (predict, *shares)))

    assert found["predict"] == [["a", "b"], ["b", "a"]]
    assert found["predict_proba.o1"] == [[0.25, 0.75], [0.0, 1.0]]


@pytest.mark.parametrize("binary", [True, False])
def test_outputs_of_several_types_are_tensors_of_their_own(binary: bool) -> None:
    manifest = of_classes("a", "b", outputs=2, probabilities=False)
    number = regressor().outputs[0].model_copy(update={"name": "price"})
    outputs = outputs_of(manifest.model_copy(update={"outputs": [manifest.outputs[0], number]}))
    assert [(each.name, each.datatype) for each in outputs] == [("predict.o0", "BYTES"), ("predict.price", "FP64")]

    result = {"predictions": [["a", 1.5], ["b", 2.5]], "probabilities": None}

    assert read(result, *((each, AskedOutput(each.name, binary)) for each in outputs)) == {
        "predict.o0": ["a", "b"],
        "predict.price": [1.5, 2.5],
    }


def test_classes_that_are_not_listed_are_told_by_the_samples() -> None:
    manifest = of_classes(probabilities=False)
    unlisted = manifest.outputs[0].model_copy(update={"classes": None})
    samples = [Sample(row=[1.0, 2.0], prediction=-1)]

    [output] = outputs_of(manifest.model_copy(update={"outputs": [unlisted], "samples": samples}))

    assert output.datatype == "INT64"


def test_all_outputs_are_answered_unless_some_are_asked_for() -> None:
    outputs = outputs_of(of_classes("a", "b"))

    def asked(*names: str, parameters: Any = None) -> list[Any]:
        request = InferRequest(None, parameters or {}, [], [AskedOutput(name, False) for name in names])
        return [(output.name, each.name, each.binary) for output, each in asked_of(request, outputs)]

    assert asked() == [("predict", "predict", False), ("predict_proba", "predict_proba", False)]
    assert asked(parameters={"binary_data_output": True})[0] == ("predict", "predict", True)
    assert asked("predict_proba", "output-0") == [
        ("predict_proba", "predict_proba", False),
        ("predict", "output-0", False),
    ]
    with pytest.raises(InvalidTensors, match="predict, predict_proba"):
        asked("nothing")


def test_an_error_names_a_few_of_many_outputs() -> None:
    outputs = [OutputTensor(f"predict.{at}", "FP64", 0, at) for at in range(10_000)]

    with pytest.raises(InvalidTensors) as raised:
        asked_of(InferRequest(None, {}, [], [AskedOutput("nothing", False)]), outputs)
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("names", [["predict", "predict"], ["predict", "output-0"], ["predict_proba"] * 3_000])
def test_no_output_is_answered_twice(names: list[str]) -> None:
    request = InferRequest(None, {}, [], [AskedOutput(name, False) for name in names])

    with pytest.raises(InvalidTensors, match="asked for twice"):
        asked_of(request, outputs_of(classifier()))
