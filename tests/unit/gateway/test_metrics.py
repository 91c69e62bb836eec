import asyncio

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import OUTCOMES, REJECTIONS, GatewayMetrics
from shared.queue.contract import Lane
from tests.support.coroutines import run


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
        (422, "row_rejected", "invalid"),
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


def test_requests_of_one_turn_of_the_event_loop_are_written_together_and_after_it() -> None:
    async def scenario() -> None:
        metrics = knowing("iris")
        for seconds in (0.0005, 0.0004, 0.3, 99.0):
            metrics.answered("POST", "/predict", 200, seconds)
        metrics.answered("POST", "/predict", 422, 0.001)
        [family] = metrics.http_requests.collect()
        assert family.samples == []

        await asyncio.sleep(0)

        [family] = metrics.http_requests.collect()
        counted = {s.labels["status"]: s.value for s in family.samples if s.name.endswith("_total")}
        assert counted == {"200": 4, "422": 1}
        values = samples(metrics)
        buckets = {
            bound: values[f"inference_http_request_duration_seconds_bucket/{bound}/POST//predict"]
            for bound in ("0.0005", "0.001", "0.25", "0.5", "60.0", "+Inf")
        }
        assert buckets == {"0.0005": 2, "0.001": 3, "0.25": 3, "0.5": 4, "60.0": 4, "+Inf": 5}

    run(scenario())


def test_who_collects_in_the_middle_of_a_turn_misses_nothing() -> None:
    async def scenario() -> None:
        metrics = knowing("iris")
        metrics.answered("POST", "/predict", 200, 0.1)
        metrics.in_progress[Lane.BULK] += 2
        metrics.waiting = lambda: 7

        values = samples(metrics)

        assert values["inference_http_requests_total/POST//predict/200"] == 1
        assert values["inference_requests_in_progress/bulk"] == 2
        assert values["inference_waiting_rows"] == 7

    run(scenario())


def test_models_beyond_the_cap_are_one() -> None:
    metrics = knowing(*(f"m{n}" for n in range(150)))

    for n in range(150):
        metrics.succeeded(f"m{n}", Lane.BULK, 0.25)
    metrics.ended_with("made-up", Lane.BULK, 404, "unknown_model")

    values = samples(metrics)
    assert values["inference_requests_total/bulk/m99/ok"] == 1
    assert values["inference_requests_total/bulk/other/ok"] == 50
    assert values["inference_requests_total/bulk/other/invalid"] == 1
    assert len([name for name in values if name.startswith("inference_requests_total/bulk/")]) == 101 * len(OUTCOMES)
