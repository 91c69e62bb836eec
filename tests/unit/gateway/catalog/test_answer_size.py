from typing import Any

import orjson
import pytest

from gateway.api.predictions import predicted
from gateway.catalog.answer_size import answer_row_bytes
from gateway.catalog.served_model import outputs_of
from headrace.models.manifest import Manifest, Output
from tests.support.manifests import classifier, regressor

LONGEST = -2.2250738585072014e-308
ROWS = 7


def with_outputs(manifest: Manifest, *outputs: Output) -> Manifest:
    return manifest.model_copy(update={"outputs": list(outputs)})


def named(name: str, manifest: Manifest) -> Output:
    return manifest.outputs[0].model_copy(update={"name": name})


MANIFESTS = {
    "a number": regressor(),
    "two classes": classifier(),
    "no probabilities": classifier(probabilities=False),
    "many classes": classifier(classes=[f"class {at}" for at in range(200)]),
    "truth values": classifier(classes=[False, True]),
    "whole numbers": classifier(classes=[-(2**53), 2**53]),
    "long labels": classifier(classes=["a" * 1_024, "ü" * 1_024]),
    "labels that are escaped": classifier(classes=['"' * 50, "\x01" * 50, "\\" * 50]),
    "outputs with names": with_outputs(
        classifier(), named("kind", classifier()), named("n\u00e4me" * 20, classifier(classes=range(9)))
    ),
    "numbers with names": with_outputs(regressor(), *(named(f"output {at}", regressor()) for at in range(50))),
}


def longest_result(manifest: Manifest) -> dict[str, Any]:
    def label(output: Output) -> Any:
        return max(output.classes, key=lambda each: len(orjson.dumps(each))) if output.classes else LONGEST

    predictions = [label(output) for output in manifest.outputs]
    shares = [[LONGEST] * len(output.classes or ()) for output in manifest.outputs]
    several = len(manifest.outputs) > 1
    return {
        "predictions": [predictions if several else predictions[0]] * ROWS,
        "probabilities": [shares if several else shares[0]] * ROWS if manifest.probabilities else None,
    }


@pytest.mark.parametrize("name", MANIFESTS)
def test_no_row_has_a_longer_answer(name: str) -> None:
    manifest = MANIFESTS[name]
    answer = orjson.dumps(predicted(outputs_of(manifest), longest_result(manifest), single=False))
    members = len(b'{"predictions":[],"probabilities":[]}')

    longest = answer_row_bytes(manifest) * ROWS
    assert len(answer) - members <= longest
    # And the bound is not far away, or callers would be refused without a reason.
    assert longest < 2 * len(answer)
