import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import OUTCOMES, REJECTIONS, GatewayMetrics
from shared.contract import Lane


def samples(metrics: GatewayMetrics) -> dict[str, float]:
    text = generate_latest(metrics.registry).decode()
    return {
        "/".join([sample.name, *(sample.labels[label] for label in sorted(sample.labels))]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def knowing(*models: str) -> GatewayMetrics:
    metrics = GatewayMetrics()
    for model in models:
        metrics.know(model)
    return metrics


def test_every_label_set_is_there_from_the_start_so_that_a_first_event_is_a_step() -> None:
    values = samples(knowing("iris"))

    names = {f"inference_rejections_total/{reason}" for reason in REJECTIONS}
    for lane in Lane:
        names |= {f"inference_requests_total/{lane.value}/iris/{outcome}" for outcome in OUTCOMES}
        names |= {f"inference_request_duration_seconds_count/{lane.value}/iris"}
    assert {values[name] for name in names} == {0}


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        (400, "invalid_json", "invalid"),
        (413, "too_large", "invalid"),
        (422, "invalid_rows", "invalid"),
        (500, "prediction_failed", "failed"),
        (503, "no_worker", "rejected"),
        (504, "deadline_exceeded", "timeout"),
        (599, "unheard_of", "failed"),
    ],
)
@pytest.mark.parametrize("lane", Lane)
def test_an_error_counts_once_by_how_it_ended(lane: Lane, status: int, code: str, outcome: str) -> None:
    metrics = knowing("iris")

    metrics.ended_with("iris", lane, status, code)

    values = samples(metrics)
    assert {name for name, value in values.items() if value and name.startswith("inference_requests_total")} == {
        f"inference_requests_total/{lane.value}/iris/{outcome}"
    }
    rejected = {name for name, value in values.items() if value and name.startswith("inference_rejections_total")}
    assert rejected == ({f"inference_rejections_total/{code}"} if code in REJECTIONS else set())


def test_only_success_has_a_duration() -> None:
    metrics = knowing("iris")

    metrics.succeeded("iris", Lane.BULK, 0.25)
    metrics.ended_with("iris", Lane.BULK, 503, "no_worker")

    values = samples(metrics)
    assert values["inference_requests_total/bulk/iris/ok"] == 1
    assert values["inference_request_duration_seconds_count/bulk/iris"] == 1
    assert values["inference_request_duration_seconds_sum/bulk/iris"] == 0.25


def test_two_gateways_in_one_process_do_not_share_their_counts() -> None:
    one, other = knowing("iris"), knowing("iris")

    one.succeeded("iris", Lane.BULK, 0.25)

    assert samples(other)["inference_requests_total/bulk/iris/ok"] == 0


def test_each_model_has_its_own_counts() -> None:
    metrics = knowing("iris", "sticks")

    metrics.succeeded("sticks", Lane.BULK, 0.25)
    metrics.know("sticks")  # another version of it

    values = samples(metrics)
    assert values["inference_requests_total/bulk/sticks/ok"] == 1
    assert values["inference_requests_total/bulk/iris/ok"] == 0


def test_names_that_callers_made_up_are_one() -> None:
    metrics = knowing("iris")
    assert "unknown" not in str(samples(metrics)), "not before there is one"

    for i in range(10):
        metrics.ended_with(f"made-up-{i}", Lane.INTERACTIVE, 404, "unknown_model")

    values = samples(metrics)
    assert values["inference_requests_total/interactive/unknown/invalid"] == 10
    assert "made-up" not in str(values)
