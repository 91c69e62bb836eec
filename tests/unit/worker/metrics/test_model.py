import logging
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from headrace.models.manifest import Feature, Manifest, Output, Reference
from headrace.models.store import ModelStore
from shared.queue.contract import ErrorCode
from worker.metrics.bins import BINS_MAX, ranges_between
from worker.metrics.model import FEATURES_MAX, ModelMetrics
from worker.metrics.worker import WorkerMetrics

Exported = Callable[[str], tuple[ModelStore, Manifest]]
Values = dict[tuple[str, ...], float]


@pytest.fixture
def worker() -> WorkerMetrics:
    return WorkerMetrics()


@pytest.fixture
def template(exported: Exported) -> Manifest:
    return exported("ridge")[1]


def number(name: str = "x", edges: tuple[float, ...] = (0.0, 1.0), nullable: bool = False) -> Feature:
    bins = [f"{at:02d}" for at in range(len(edges) + 1)] + ["missing"] * nullable
    return Feature(
        name=name,
        nullable=nullable,
        minimum=0.0,
        maximum=1.0,
        histogram_edges=[0.0, 0.5, 1.0],
        reference=Reference(bins=bins, ratios=[1 / len(bins)] * len(bins), edges=list(edges)),
    )


def named(kind: Any, bins: list[str], name: str = "x", nullable: bool = False) -> Feature:
    reference = Reference(bins=bins, ratios=[1 / len(bins)] * len(bins) if len(bins) > 1 else [1])
    return Feature(name=name, type=kind, nullable=nullable, dtype="object", reference=reference)


def metrics_of(
    worker: WorkerMetrics,
    template: Manifest,
    features: list[Feature] | None = None,
    outputs: list[Output] | None = None,
) -> ModelMetrics:
    changes: dict[str, Any] = {"name": "m", "version": "v1"}
    if features:
        changes["features"] = features
    if outputs:
        changes["outputs"] = outputs
    return worker.model(template.model_copy(update=changes))


def values(metric: Any, *, all_labels: bool = False) -> Values:
    """Return the labels after model and version -> value, of a counter or gauge; zeros too."""
    [family] = metric.collect()
    return {
        tuple(sample.labels.values())[0 if all_labels else 2 :]: sample.value
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_numbers_are_counted_by_bin_and_in_a_histogram(worker: WorkerMetrics, template: Manifest) -> None:
    metrics = metrics_of(worker, template, [number("a"), number("b", nullable=True)])
    assert values(worker.feature_bins) == {
        ("a", "00"): 0, ("a", "01"): 0, ("a", "02"): 0,
        ("b", "00"): 0, ("b", "01"): 0, ("b", "02"): 0, ("b", "missing"): 0,
    }  # fmt: skip

    metrics.count_inputs([[0.0, None], [0.1, 7], [1, None], [2, -3.5]])

    assert values(worker.feature_bins) == {
        ("a", "00"): 1, ("a", "01"): 2, ("a", "02"): 1,
        ("b", "00"): 1, ("b", "01"): 0, ("b", "02"): 1, ("b", "missing"): 2,
    }  # fmt: skip
    histogram = metrics._features[1]._values
    assert histogram is not None
    assert [bucket.get() for bucket in histogram._buckets] == [1, 0, 0, 1]
    assert histogram._sum.get() == 3.5


def test_the_sum_of_a_feature_stays_finite(worker: WorkerMetrics, template: Manifest) -> None:
    metrics = metrics_of(worker, template, [number("a")])

    for value in (1.7e308, -1.7e308):
        metrics.count_inputs([[value]] * 4)

    histogram = metrics._features[0]._values
    assert histogram is not None and math.isfinite(histogram._sum.get())


def test_texts_are_counted_by_category(worker: WorkerMetrics, template: Manifest) -> None:
    bins = ["red", "blue", "other", "missing"]
    metrics = metrics_of(worker, template, [named("string", bins, nullable=True), number("y")])

    metrics.count_inputs([["red", 0], ["red", 0], [None, 0], ["green", 0], ["missing", 0], ["other", 0]])

    counted = {bin_: count for (feature, bin_), count in values(worker.feature_bins).items() if feature == "x"}
    assert counted == {"red": 2, "blue": 0, "other": 3, "missing": 1}


def test_booleans_are_counted_by_their_text(worker: WorkerMetrics, template: Manifest) -> None:
    metrics = metrics_of(worker, template, [named("boolean", ["False", "True", "missing"], nullable=True)])

    metrics.count_inputs([[True], [True], [False], [None]])

    assert values(worker.feature_bins) == {("x", "False"): 1, ("x", "True"): 2, ("x", "missing"): 1}


def test_the_references_are_gauges(worker: WorkerMetrics, template: Manifest) -> None:
    metrics_of(worker, template, [number("a")], [_classes(["no", "yes"])])

    assert values(worker.feature_reference) == {("a", f"0{at}"): pytest.approx(1 / 3) for at in range(3)}
    assert values(worker.output_reference) == {("", "no"): 0.5, ("", "yes"): 0.5}
    assert values(worker.training_rows) == {(): template.training_rows}


def test_an_unknown_number_of_training_rows_is_0(worker: WorkerMetrics, template: Manifest) -> None:
    metrics_of(worker, template.model_copy(update={"training_rows": None}))

    assert values(worker.training_rows) == {(): 0}


def _classes(classes: list[Any], name: str = "prediction") -> Output:
    reference = Reference(bins=list(map(str, classes)), ratios=[1 / len(classes)] * len(classes))
    return Output(name=name, kind="class", classes=classes, reference=reference)


@pytest.mark.parametrize(
    ("classes", "predictions", "expected"),
    [
        (["no", "yes"], ["yes", None, "yes"], {("no",): 0, ("yes",): 2}),
        ([False, True], [True, False, True], {("False",): 1, ("True",): 2}),
        ([-1, 1], [1, 1, -1], {("-1",): 1, ("1",): 2}),
        (["missing", "other"], ["missing", "other", "other"], {("missing",): 1, ("other",): 2}),
        (["other", "missing"], ["missing", "other", "other"], {("missing",): 1, ("other",): 2}),
    ],
)
def test_classes_are_counted(
    worker: WorkerMetrics, template: Manifest, classes: list[Any], predictions: list[Any], expected: Values
) -> None:
    metrics = metrics_of(worker, template, outputs=[_classes(classes)])

    metrics.count_outputs(predictions)

    assert values(worker.outputs) == {("", output): count for (output,), count in expected.items()}
    assert values(worker.predictions)[("ok",)] == sum(each is not None for each in predictions)


def test_several_outputs_are_counted_by_name(worker: WorkerMetrics, template: Manifest) -> None:
    price = Output(name="price", kind="number", reference=Reference(bins=["00", "01"], ratios=[0.5, 0.5], edges=[10.0]))
    metrics = metrics_of(worker, template, outputs=[_classes(["a", "b"], "kind"), price])

    metrics.count_outputs([["a", 10.0], ["b", 10.5], None, ["a", 12.0]])

    assert values(worker.outputs) == {
        ("kind", "kind=a"): 2, ("kind", "kind=b"): 1, ("price", "price=00"): 1, ("price", "price=01"): 2,
    }  # fmt: skip
    assert values(worker.predictions)[("ok",)] == 3


def test_a_batch_of_failures_only_counts_nothing(worker: WorkerMetrics, template: Manifest) -> None:
    metrics = metrics_of(worker, template, outputs=[_classes(["a"], "kind"), _classes(["b"], "other")])

    metrics.count_outputs([None, None])
    metrics.count_error(ErrorCode.PREDICTION_FAILED.value, 2)

    assert set(values(worker.outputs).values()) == {0}
    assert values(worker.predictions) == {("ok",): 0, ("error",): 2}
    assert values(worker.errors)[("prediction_failed",)] == 2


def test_features_are_bounded(worker: WorkerMetrics, template: Manifest) -> None:
    features = [number(f"x{at}") for at in range(FEATURES_MAX)] + [named("string", ["a", "other"], "text")]
    metrics = metrics_of(worker, template, features)

    metrics.count_inputs([[0.5] * FEATURES_MAX + ["a"]] * 3)

    counted = values(worker.feature_bins)
    assert {feature for feature, _ in counted} == {f"x{at}" for at in range(FEATURES_MAX)}
    assert counted["x31", "01"] == 3


def test_bins_are_bounded(worker: WorkerMetrics, template: Manifest) -> None:
    texts = [f"t{at}" for at in range(30)]
    features = [
        named("string", [*texts, "other", "missing"], "text", nullable=True),
        number("many", tuple(float(at) for at in range(30))),
    ]
    metrics = metrics_of(worker, template, features, [_classes(list(range(50)))])

    metrics.count_inputs([["t0", 1.0], ["t29", 2.0], ["never", 3.0], [None, 4.0]])
    metrics.count_outputs([0, 19, 20, 49])

    counted = values(worker.feature_bins)
    assert {feature for feature, _ in counted} == {"text"}
    assert len(counted) == BINS_MAX
    assert (counted["text", "t0"], counted["text", "other"], counted["text", "missing"]) == (1, 2, 1)
    outputs = values(worker.outputs)
    assert len(outputs) == BINS_MAX
    assert (outputs["", "0"], outputs["", "19"], outputs["", "other"]) == (1, 1, 2)
    assert sum(values(worker.output_reference).values()) == pytest.approx(1.0)
    assert values(worker.output_reference)[("", "other")] == pytest.approx(30 / 50)


def test_ranges_take_time_in_proportion_to_the_edges() -> None:
    # With all pairs of edges it would be 10 minutes.
    started = time.process_time()
    ranges = ranges_between([at / 7 for at in range(100_000)])

    assert len(ranges) == 100_001
    assert time.process_time() - started < 30


def test_a_version_whose_series_can_not_be_made_is_counted_with_others(
    worker: WorkerMetrics, template: Manifest, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = number("a").model_copy(update={"histogram_edges": [1.0, 0.0]})
    manifest = template.model_copy(update={"name": "m", "version": "v1", "features": [damaged]})

    worker.mark_loaded([manifest, template.model_copy(update={"name": "n"})])
    worker.model(manifest).count_outputs([1.0])

    assert values(worker.predictions, all_labels=True)[("other", "other", "ok")] == 1
    assert values(worker.model_loaded, all_labels=True).keys() == {("n", template.version)}
    assert "ValueError" in caplog.text


@pytest.mark.parametrize("rows", [[[1.0]], [[1.0, 2.0], [1.0]], [["text", 1.0]], [[{}, 1.0]]])
def test_rows_that_are_none_are_logged_and_not_counted(
    worker: WorkerMetrics, template: Manifest, rows: list[list[Any]], caplog: pytest.LogCaptureFixture
) -> None:
    metrics = metrics_of(worker, template, [number("a"), number("b")])

    metrics.count_inputs(rows)

    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize("case", ["mixed frame", "several classes", "several numbers", "isolation forest", "prose"])
def test_samples_of_exported_models_fall_into_bins(worker: WorkerMetrics, exported: Exported, case: str) -> None:
    _, manifest = exported(case)
    metrics = worker.model(manifest)
    rows = [sample.row for sample in manifest.samples]

    metrics.count_inputs(rows)
    metrics.count_outputs([sample.prediction for sample in manifest.samples])

    assert sum(values(worker.feature_bins).values()) == len(rows) * len(manifest.features)
    assert sum(values(worker.outputs).values()) == len(rows) * len(manifest.outputs)


def test_one_object_per_version(worker: WorkerMetrics, template: Manifest) -> None:
    assert worker.model(template) is worker.model(template.model_copy())


def test_loads_are_counted_by_outcome(worker: WorkerMetrics, template: Manifest) -> None:
    manifest = template.model_copy(update={"name": "m", "version": "v1"})

    worker.count_load(manifest, 0.25)
    worker.count_load(manifest, None)
    worker.count_load(None, None)

    assert values(worker.model_loads, all_labels=True) == {
        ("m", "ok"): 1,
        ("m", "refused"): 1,
        ("unknown", "refused"): 1,
    }
    assert values(worker.model_load_seconds) == {}, "the version is not in memory yet"
    worker.mark_loaded([manifest])
    assert values(worker.model_load_seconds, all_labels=True) == {("m", "v1"): 0.25}


@pytest.mark.parametrize("n_features", [2, FEATURES_MAX + 3])
def test_an_array_is_counted_like_rows(worker: WorkerMetrics, template: Manifest, n_features: int) -> None:
    metrics = metrics_of(worker, template, [number(f"x{i}") for i in range(n_features)])
    rows = np.linspace(0, 1, 7 * n_features).reshape(7, n_features)

    metrics.count_inputs(rows)
    counted = values(worker.feature_bins)
    metrics.count_inputs(rows.tolist())

    assert sum(counted.values()) == 7 * min(n_features, FEATURES_MAX)
    assert values(worker.feature_bins) == {bin_: 2 * count for bin_, count in counted.items()}


def test_counting_a_large_batch_takes_no_loop_over_numbers(worker: WorkerMetrics, template: Manifest) -> None:
    metrics = metrics_of(worker, template, [number("a", nullable=True)])
    rows = [[value] for value in np.linspace(-1, 2, 9_999).tolist()]

    metrics.count_inputs([*rows, [None]])

    assert sum(values(worker.feature_bins).values()) == 10_000


@pytest.mark.parametrize(
    ("edges", "ranges"),
    [
        ((4.3, 5.1), ["≤ 4.3", "4.3–5.1", "> 5.1"]),
        ((1995.0, 2004.0), ["≤ 1995", "1995–2004", "> 2004"]),
        ((0.1 + 0.2,), ["≤ 0.3", "> 0.3"]),
        # A constant has a bin of its own between two empty ones.
        ((float(np.nextafter(5.0, 0.0)), 5.0), ["< 5", "5", "> 5"]),
        ((-1.23456, 2.3456), ["≤ -1.23", "-1.23–2.35", "> 2.35"]),
        ((0.123456, 0.123999), ["≤ 0.12346", "0.12346–0.124", "> 0.124"]),
        ((1.2345e-7, 3e12), ["≤ 1.23e-07", "1.23e-07–3e+12", "> 3e+12"]),
    ],
)
def test_bins_of_numbers_have_ranges_for_people(
    worker: WorkerMetrics, template: Manifest, edges: tuple[float, ...], ranges: list[str]
) -> None:
    features = [number("a", edges, nullable=True), named("string", ["red", "other"], "b")]
    reference = Reference(bins=[f"{at:02d}" for at in range(len(ranges))], ratios=[1.0] * len(ranges), edges=[*edges])
    metrics_of(worker, template, features, [Output(kind="number", reference=reference)])

    of_numbers = [(f"{at:02d}", text) for at, text in enumerate(ranges)]
    of_a, of_b = ([*of_numbers, ("missing", "missing")], [("red", "red"), ("other", "other")])
    assert set(values(worker.feature_bin_info)) == {*(("a", *each) for each in of_a), *(("b", *each) for each in of_b)}
    assert set(values(worker.output_bin_info)) == {("", *each) for each in of_numbers}
