import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import Histogram

from headrace.models.fields import FACT_MAX, LABEL_MAX, NAME_MAX
from headrace.models.manifest import Feature, Manifest, Reference
from shared.queue.contract import ErrorCode, Lane
from tests.support.manifests import classifier, regressor
from tests.support.processes import REPOSITORY
from worker.metrics import worker as module
from worker.metrics.bins import BINS_MAX, LABEL_MAX_CHARACTERS
from worker.metrics.families import BulkHistogram
from worker.metrics.model import n_series
from worker.metrics.worker import WAIT_MAX_SECONDS, WorkerMetrics

BOUNDS = (-1.0, 0.0, 0.5, 2.5, 10.0)


def samples(*collectors: Any) -> dict[str, float]:
    """Return `name/label values in the order of their names` -> value."""
    return {
        "/".join([sample.name, *(sample.labels[label] for label in sorted(sample.labels))]): sample.value
        for collector in collectors
        for family in collector.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def samples_of(collector: Any) -> list[Any]:
    return [sample for family in collector.collect() for sample in family.samples]


def chosen(seed: int) -> list[float]:
    chance = random.Random(seed)
    return [chance.choice([chance.uniform(-3, 12), chance.choice(BOUNDS)]) for _ in range(chance.randint(1, 300))]


@pytest.mark.parametrize(
    "batches",
    [
        [[]],
        [[0.25]],
        [list(BOUNDS)],
        [[np.nextafter(bound, np.inf) for bound in BOUNDS], [np.nextafter(bound, -np.inf) for bound in BOUNDS]],
        [[0.0, -0.0]],
        [[-1e300, 1e300, 5e-324]],
        [[1e6] * 1000],
        *([chosen(seed), chosen(seed + 100), []] for seed in range(5)),
    ],
)
@pytest.mark.parametrize("bounds", [BOUNDS, BOUNDS[2:]])
def test_many_observations_at_once_count_like_one_by_one(bounds: tuple[float, ...], batches: list[list[float]]) -> None:
    at_once = BulkHistogram("x", "x", ["label"], buckets=bounds, registry=None).labels("a")
    one_by_one = Histogram("x", "x", ["label"], buckets=bounds, registry=None).labels("a")
    for values in batches:
        at_once.observe_many(np.array(values, dtype=np.float64))
        for value in values:
            one_by_one.observe(value)

    expected = samples(one_by_one)
    assert expected["x_bucket/+Inf"] == sum(map(len, batches))
    # A histogram has no sum if its values may be negative.
    assert ("x_sum" in expected) == (bounds[0] >= 0)
    assert samples(at_once) == pytest.approx(expected, rel=1e-12)


def test_before_anything_happens_every_series_of_a_model_is_there() -> None:
    metrics = WorkerMetrics()
    manifest = classifier()
    metrics.model(manifest)

    zero = samples(
        metrics.predictions, metrics.errors, metrics.outputs, metrics.feature_bins, metrics.batches_in_progress
    )

    assert set(zero.values()) == {0}
    assert {name for name in zero if "predictions" in name} == {
        "inference_predictions_total/sticks/ok/v1",
        "inference_predictions_total/sticks/error/v1",
    }
    assert {name.split("/")[1] for name in zero if "errors" in name} == {code.value for code in ErrorCode}
    assert {name.split("/")[2] for name in zero if name.startswith("inference_output")} == {"short", "long"}
    assert len([name for name in zero if "feature_bin" in name]) == 4
    waits = samples(metrics.queue_wait_seconds)
    assert {waits[f"inference_queue_wait_seconds_count/{lane.value}"] for lane in Lane} == {0}


def test_a_loaded_version_has_its_info_and_references() -> None:
    metrics = WorkerMetrics()
    of_model = metrics.model(classifier())
    of_model.mark_loaded(123.0)

    found = samples(metrics.model_info, metrics.model_loaded, metrics.feature_reference, metrics.output_reference)

    assert found["inference_model_info/00000000/nothing.Nobody/sticks/1.9.1/v1"] == 1
    assert found["inference_model_loaded_timestamp_seconds/sticks/v1"] == 123
    assert found["inference_feature_reference_ratio/00/width/sticks/v1"] == 0.5
    assert found["inference_output_reference_ratio/sticks/long//v1"] == 0.5


def test_the_metrics_of_a_version_are_made_once() -> None:
    metrics = WorkerMetrics()

    assert metrics.model(classifier()) is metrics.model(classifier())
    assert metrics.model(classifier()) is not metrics.model(classifier(version="v2"))


def test_inputs_are_counted_by_feature_and_by_bin_of_the_training_data() -> None:
    metrics = WorkerMetrics()
    of_model = metrics.model(classifier(["length", "width"]))

    # The edge of the bins is 1.5, which belongs to the lower one, as in training.
    of_model.count_inputs([[0.0, 9.0], [1.5, 1.6], [1.6, 1.5]])
    of_model.count_inputs([[-100.0, 100.0]])

    bins = samples(metrics.feature_bins)
    assert bins["inference_feature_bin_total/00/length/sticks/v1"] == 3
    assert bins["inference_feature_bin_total/01/length/sticks/v1"] == 1
    assert bins["inference_feature_bin_total/00/width/sticks/v1"] == 1
    assert bins["inference_feature_bin_total/01/width/sticks/v1"] == 3


def counts(metrics: WorkerMetrics, outputs: Iterable[str], version: str = "v1", model: str = "sticks") -> list[float]:
    found = samples(metrics.outputs)
    return [found[f"inference_output_total/{model}/{output}//{version}"] for output in outputs]


@pytest.mark.parametrize(
    ("classes", "predictions", "expected"),
    [
        (("short", "long"), ["long", "short", "long"], [1, 2]),
        ((0, 1), [1, 1, 0, 1], [1, 3]),
        ((False, True), [True, False, True], [1, 2]),
        (("short", "long"), [None, "long", None], [0, 1]),
        (("short", "long"), [], [0, 0]),
    ],
)
def test_outputs_are_counted_by_class(classes: tuple[Any, ...], predictions: list[Any], expected: list[int]) -> None:
    metrics = WorkerMetrics()
    metrics.model(classifier(classes=classes)).count_outputs(predictions)

    assert counts(metrics, map(str, classes)) == expected
    ok = samples(metrics.predictions)["inference_predictions_total/sticks/ok/v1"]
    assert ok == sum(prediction is not None for prediction in predictions)


def test_a_class_that_training_never_saw_is_a_prediction_but_no_new_series() -> None:
    metrics = WorkerMetrics()
    metrics.model(classifier()).count_outputs(["medium", "long"])

    found = samples(metrics.outputs)
    assert {name.split("/")[2] for name in found} == {"short", "long"}
    assert sum(found.values()) == 1
    assert samples(metrics.predictions)["inference_predictions_total/sticks/ok/v1"] == 2


def test_numbers_are_counted_by_bin_an_edge_in_the_lower_one() -> None:
    metrics = WorkerMetrics()
    metrics.model(regressor()).count_outputs([-5.0, 0.0, 0.1, 1.0, 1.1, None, 99, 0])

    assert counts(metrics, ["00", "01", "02"], model="weights") == [3, 2, 2]


def test_errors_are_counted_by_code_and_as_failed_rows() -> None:
    metrics = WorkerMetrics()
    of_model = metrics.model(classifier())
    of_model.count_error("prediction_failed", 2)
    of_model.count_error("worker_lost", 30)

    found = samples(metrics.errors, metrics.predictions)
    assert found["inference_errors_total/prediction_failed/sticks/v1"] == 2
    assert found["inference_errors_total/worker_lost/sticks/v1"] == 30
    assert found["inference_predictions_total/sticks/error/v1"] == 32


@pytest.mark.parametrize(
    ("index", "name"), [(0, "slot0"), (7, "slot7"), (None, f"main{os.getpid()}")], ids=["first", "eighth", "main"]
)
def test_a_shard_is_named_by_the_place_of_its_process_in_the_pool(
    monkeypatch: pytest.MonkeyPatch, index: int | None, name: str
) -> None:
    process = SimpleNamespace() if index is None else SimpleNamespace(index=index)
    monkeypatch.setattr(module, "current_process", lambda: process)

    assert module.metrics_shard() == name
    assert "_" not in name, "file names are split there"


COUNT_AS_CHILD = """
import json, sys
from types import SimpleNamespace
from prometheus_client import CollectorRegistry
from shared.observability.multiprocess import add_up_files, forget_predecessor, name_files_by
from tests.support.manifests import classifier
from worker.metrics import worker as metrics

index = int(sys.argv[1])
metrics.current_process = lambda: SimpleNamespace(index=index)
name_files_by(metrics.metrics_shard)
forget_predecessor(metrics.metrics_shard())
worker = metrics.WorkerMetrics()
model = worker.model(classifier())
model.count_inputs([[0.5, 1.5], [1.0, 2.0]])
model.count_outputs(["short", "long"])
worker.batches_in_progress.inc()
registry = CollectorRegistry(support_collectors_without_names=True)
add_up_files(registry)
print(json.dumps({
    "/".join([sample.name, *sorted(sample.labels.values())]): sample.value
    for family in registry.collect()
    for sample in family.samples
}))
"""


def count_as_child(folder: Path, index: int) -> dict[str, float]:
    """Let a process with this place in the pool count two rows; return the sums of all files in the folder."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", COUNT_AS_CHILD, str(index)],
        cwd=REPOSITORY,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    values: dict[str, float] = json.loads(ran.stdout)
    return values


def test_children_add_up_and_leave_as_many_files_as_there_are_slots(tmp_path: Path) -> None:
    for index in (0, 1, 1):
        found = count_as_child(tmp_path, index)

    assert found["inference_predictions_total/ok/sticks/v1"] == 6, "the counts of a child that has ended stay"
    assert found["inference_feature_value_count/length/sticks/v1"] == 6
    assert found["inference_feature_value_bucket/1.0/length/sticks/v1"] == 6
    assert found["inference_feature_value_sum/sticks/v1/width"] == 3 * 3.5
    assert found["inference_batches_in_progress"] == 2, (
        "the batch of the child that has ended is not in progress any more"
    )
    assert found["inference_feature_reference_ratio/00/length/sticks/v1"] == 0.5, "shares are not added up"
    slots = {path.name.rsplit("_", 1)[1] for path in tmp_path.glob("*.db")}
    assert slots == {"slot0.db", "slot1.db"}


def all_samples(metrics: WorkerMetrics) -> dict[str, float]:
    """Return the samples of all metrics, the histograms of features included."""
    own = [each for each in vars(metrics).values() if hasattr(each, "collect")]
    models = {id(model): model for model in metrics._models.values()}.values()
    values = [feature._values for model in models for feature in model._features if feature._values is not None]
    found = samples(*own)
    return found | {f"{i}/{name}": value for i, each in enumerate(values) for name, value in samples(each).items()}


def test_a_store_of_very_many_versions_makes_no_more_series_than_the_cap(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "SERIES_MAX", 1000)
    metrics = WorkerMetrics()
    manifests = [classifier([f"x{i}" for i in range(20)], version=f"v{n}") for n in range(30)]

    for manifest in manifests:
        of_model = metrics.model(manifest)
        metrics.mark_loaded([manifest])
        of_model.count_inputs([[1.0] * 20])
        of_model.count_outputs(["short"])
        of_model.count_confidence(np.array([0.5]))
        of_model.count_error("prediction_failed", 1)
        of_model.compute_seconds.observe(0.1)
        of_model.batch_rows.observe(1)

    found = all_samples(metrics)
    assert len(found) < 1000 + 100, "and the series of `other` and of no version"
    assert sum(value for name, value in found.items() if name.startswith("inference_predictions_total/")) == 60
    # The first versions have all series, the next ones none of their features, the others are counted together.
    inputs = {name.rsplit("/", 1)[1] for name in found if name.startswith("inference_feature_bin_total/")}
    versions = {name.rsplit("/", 1)[1] for name in found if name.startswith("inference_predictions_total/")}
    assert inputs == {f"v{n}" for n in range(len(inputs))}
    assert versions == {*(f"v{n}" for n in range(len(versions) - 1)), "other"}
    assert 1 < len(inputs) < len(versions) < 30
    assert found["inference_predictions_total/other/ok/other"] == 30 - len(versions) + 1
    assert len([record for record in caplog.records if "counted" in record.message]) == 30 - len(inputs)


def test_the_number_of_series_is_known_before_they_are_made() -> None:
    metrics = WorkerMetrics()
    before = len(all_samples(metrics))
    wide, narrow = classifier([f"x{i}" for i in range(20)]), classifier(version="v2")

    for manifest in (wide, narrow):
        metrics.count_load(manifest, 1.0)
    metrics.mark_loaded([wide, narrow])

    made = len(all_samples(metrics)) - before
    assert n_series(wide, wide.features) + n_series(narrow, narrow.features) == pytest.approx(made, abs=60)


def with_long_texts(version: str, character: str = "x") -> Manifest:
    """Return a version whose texts are as long as a manifest may have them."""
    manifest = classifier(version=version)
    labels = [f"{character * (LABEL_MAX - 2)}{at:02d}" for at in range(BINS_MAX)]
    reference = Reference(bins=labels, ratios=[1 / BINS_MAX] * BINS_MAX)
    output = manifest.outputs[0].model_copy(update={"name": character * NAME_MAX, "reference": reference})
    feature = Feature(name=character * NAME_MAX, type="string", dtype="object", reference=reference)
    libraries = {"scikit-learn": character * FACT_MAX}
    changes = {"estimator": character * FACT_MAX, "libraries": libraries, "features": [feature]}
    return manifest.model_copy(update={**changes, "outputs": [output, output]})


def test_long_texts_are_cut_in_labels_and_stay_apart() -> None:
    metrics = WorkerMetrics()
    manifest = with_long_texts("v1")

    of_model = metrics.model(manifest)
    metrics.mark_loaded([manifest])
    of_model.count_inputs([[bin_] for bin_ in manifest.features[0].reference.bins])

    found = [*samples_of(metrics.feature_bins), *samples_of(metrics.feature_bin_info), *samples_of(metrics.model_info)]
    counts = [sample for sample in found if sample.name.endswith("bin_total")]
    assert [sample.value for sample in counts] == [1.0] * BINS_MAX
    assert len({sample.labels["bin"] for sample in counts}) == BINS_MAX
    assert max(len(value) for sample in found for value in sample.labels.values()) <= LABEL_MAX_CHARACTERS


@pytest.mark.parametrize("character", ["x", "é", "𝔁"])
def test_the_bytes_of_series_are_bounded_whatever_texts_the_manifests_hold(
    character: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SERIES_MAX", 2_000)
    metrics = WorkerMetrics()
    for at in range(30):
        metrics.model(with_long_texts(f"v{at}", character))

    series = [sample for each in vars(metrics).values() if hasattr(each, "collect") for sample in samples_of(each)]
    assert sum(len(json.dumps([sample.name, sample.labels])) for sample in series) < 20e6 / 20_000 * 2_000


def test_a_version_has_its_info_while_it_is_in_memory() -> None:
    metrics = WorkerMetrics()

    def in_memory(*versions: str) -> set[str]:
        metrics.mark_loaded(classifier(version=version) for version in versions)
        return {name.rsplit("/", 1)[1] for name, value in samples(metrics.model_info).items() if value}

    assert in_memory("v1") == {"v1"}
    assert in_memory("v1", "v2") == {"v1", "v2"}
    assert in_memory("v2") == {"v2"}
    assert in_memory() == set()
    assert in_memory("v1") == {"v1"}


def test_trials_and_models_beyond_the_cap_are_one() -> None:
    metrics = WorkerMetrics()
    for n in range(150):
        metrics.shadow_counts("sticks", "v0", f"v{n}").same.inc()
        metrics.count_load(classifier(name=f"m{n}"), None)
        metrics.count_jobs(f"m{n}", [(0.0, 1.0), (0.0, None)])

    shadows = samples(metrics.shadow_rows)
    assert len(shadows) == 3 * (100 + 1)
    assert shadows["inference_shadow_rows_total/same/other/other/other"] == 50
    assert samples(metrics.model_loads)["inference_model_loads_total/other/refused"] == 50
    assert samples(metrics.job_seconds)["inference_job_duration_seconds_count/other"] == 50


def test_a_time_that_an_entry_made_up_leaves_the_sum_finite() -> None:
    worker = WorkerMetrics()

    worker.count_waits(Lane.INTERACTIVE, [1e308, 1e308, -1e308])

    sums = samples(worker.queue_wait_seconds)
    assert sums["inference_queue_wait_seconds_sum/interactive"] == 2 * WAIT_MAX_SECONDS
