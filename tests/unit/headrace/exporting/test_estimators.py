import numpy as np
import pytest

from tests.support.estimators import CASES
from tests.support.exported import Exported, fitted
from worker.model.predictor import Predictor

each_case = pytest.mark.parametrize("kind", CASES)


@each_case
def test_a_worker_predicts_the_samples_as_exported(kind: str, exported: Exported) -> None:
    store, manifest = exported(kind)

    predictor = Predictor.load(store, manifest)

    answer = predictor.predict([sample.row for sample in manifest.samples])
    assert not answer.failures
    assert answer.predictions == [
        pytest.approx(sample.prediction) if manifest.outputs[0].kind == "number" else sample.prediction
        for sample in manifest.samples
    ]
    assert (answer.probabilities is not None) == manifest.probabilities


@each_case
def test_the_samples_are_few_rows_and_cover_the_classes(kind: str, exported: Exported) -> None:
    _, manifest = exported(kind)

    assert 5 <= len(manifest.samples) <= 8
    assert len({repr(sample.row) for sample in manifest.samples}) == len(manifest.samples)
    assert len({repr(sample.prediction) for sample in manifest.samples}) > 1 or kind == "neural network"


@each_case
def test_the_manifest_says_which_values_may_be_null_and_a_sample_shows_each(kind: str, exported: Exported) -> None:
    _, manifest = exported(kind)

    nullable = {i for i, feature in enumerate(manifest.features) if feature.nullable}
    shown = {i for sample in manifest.samples for i, value in enumerate(sample.row) if value is None}
    assert shown <= nullable
    assert bool(shown) == bool(nullable)


@each_case
def test_classes_are_of_the_type_that_was_trained(kind: str, exported: Exported) -> None:
    case, (_, manifest) = fitted(kind), exported(kind)

    for at, output in enumerate(manifest.outputs):
        if output.classes is None or case.y is None:
            continue
        columns = np.asarray(case.y).reshape(len(case.X), -1)
        trained = {(type(each), each) for each in columns[:, at].tolist()}
        assert {(type(each), each) for each in output.classes} == trained


def test_several_outputs_are_named_by_the_columns_of_y(exported: Exported) -> None:
    assert [output.name for output in exported("several classes")[1].outputs] == ["species", "size"]
    assert [output.name for output in exported("several numbers")[1].outputs] == ["output_0", "output_1"]
    assert [output.name for output in exported("ridge")[1].outputs] == ["prediction"]


def test_probabilities_are_known_where_a_call_gives_them(exported: Exported) -> None:
    known = {kind for kind in CASES if exported(kind)[1].probabilities}

    assert {"logistic regression", "calibrated svc", "several classes", "mixture"} <= known
    assert not known & {
        "svc without probabilities",
        "linear svc",
        "grid search",
        "ridge",
        "clusters",
        "labels of a neural network",
    }


def test_outliers_and_clusters_are_classes(exported: Exported) -> None:
    assert exported("isolation forest")[1].outputs[0].classes == [-1, 1]
    assert exported("clusters")[1].outputs[0].classes == [0, 1, 2]


def test_a_frame_is_described_by_column(exported: Exported) -> None:
    _, manifest = exported("mixed frame")

    assert manifest.input == "frame"
    assert [(each.name, each.type, each.nullable) for each in manifest.features] == [
        ("age", "number", False),
        ("income", "number", True),
        ("city", "string", True),
        ("plan", "string", False),
        ("member", "boolean", False),
        ("owner", "boolean", True),
    ]
    age, income, city, plan, member, owner = manifest.features
    assert (age.dtype, income.dtype, plan.dtype, member.dtype, owner.dtype) == (
        "int64",
        "float64",
        "category",
        "bool",
        "object",
    )
    assert city.categories == ["Berlin", "Lyon", "Oslo", "Porto"]
    assert city.reference.bins == ["Berlin", "Lyon", "Oslo", "Porto", "other", "missing"]
    assert plan.categories == ["free", "plus", "pro"]
    assert (city.longest, plan.longest, owner.longest) == (6, 4, None)
    assert member.reference.bins == ["False", "True"]
    assert owner.reference.bins == ["False", "True", "missing"]
    assert income.reference.bins[-1] == "missing"


def test_an_array_has_numbers_only(exported: Exported) -> None:
    _, manifest = exported("boosting with gaps")

    assert manifest.input == "array"
    assert {(each.type, each.dtype, each.nullable) for each in manifest.features} == {("number", "float64", True)}
    assert [each.name for each in manifest.features[:2]] == ["x0", "x1"]
