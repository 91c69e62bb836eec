"""Panels of requests as callers see them: rate, errors, duration."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.colours import GREEN, RED, YELLOW
from monitoring.dashboards.layout import Row
from monitoring.dashboards.links import QUEUE, leading_to
from monitoring.dashboards.panels import NO_TRAFFIC, Query, heat, lines, number
from monitoring.dashboards.promql import (
    KNOWN,
    MODELS,
    fraction,
    increase,
    known,
    moving,
    moving_rate,
    quantile,
    rate,
    shown_increase,
    total,
)
from monitoring.rules.slo import LATENCY_SECONDS, OBJECTIVES

REQUESTS = "inference_requests_total"
DURATION = "inference_request_duration_seconds"
INTERACTIVE, BULK = 'lane="interactive"', 'lane="bulk"'
OUR_FAULT = 'outcome=~"rejected|failed|timeout"'

ERRORS_ALLOWED = next(round(1 - objective.ratio, 6) for objective in OBJECTIVES if objective.slo == "availability")


def request_rate() -> model.Panel:
    """Return the rate of requests."""
    return number(
        "Traffic",
        "Predictions and job submissions per second.",
        "reqps",
        Query(f"{total(rate(REQUESTS, MODELS))} or vector(0)"),
    )


def success() -> model.Panel:
    """Return the share of requests that did not fail."""
    return number(
        "Success",
        "Share of the requests that did not fail through our fault (rejected, failed, timeout). Yellow: below the "
        "objective. 100 % without requests.",
        "percentunit",
        Query(f"1 - ({fraction(rate(REQUESTS, MODELS, OUR_FAULT), rate(REQUESTS, MODELS))})"),
        steps=((0, RED), (1 - 10 * ERRORS_ALLOWED, YELLOW), (1 - ERRORS_ALLOWED, GREEN)),
    )


def p95() -> model.Panel:
    """Return the P95 latency."""
    return number(
        "P95 latency",
        "19 of 20 predictions took at most this long, waiting in the queue included. Red: above the objective.",
        "s",
        Query(known(quantile(0.95, DURATION, MODELS, INTERACTIVE))),
        steps=((0, GREEN), (float(LATENCY_SECONDS), RED)),
        no_value=NO_TRAFFIC,
    )


def requests_row() -> Row:
    """Return the row of rate, errors and duration of each model."""
    return Row(
        "Requests",
        8,
        [(8, _rate()), (8, _errors()), (8, _latency()), (8, _outcomes()), (8, _rejections()), (8, _callers_errors())],
    )


def depth_row() -> Row:
    """Return the row of details."""
    return Row(
        "Requests in depth",
        8,
        [(8, _quantiles()), (8, _distribution()), (8, _in_progress()), (12, _http_rate()), (12, _http_latency())],
        collapsed=True,
    )


def _rate() -> model.Panel:
    return lines(
        "Request rate",
        "Prediction requests and job submissions of each model.",
        "reqps",
        Query(total(rate(REQUESTS, MODELS), "model"), "{{model}}"),
    )


def _errors() -> model.Panel:
    errors = fraction(rate(REQUESTS, MODELS, OUR_FAULT), rate(REQUESTS, MODELS), "model")
    return lines(
        "Error rate",
        "Share of each model's requests that failed through our fault (rejected, failed, timeout). The line: the share "
        "that the objective allows.",
        "percentunit",
        Query(moving(errors, total(shown_increase(REQUESTS, MODELS, OUR_FAULT), "model")), "{{model}}"),
        limits=((ERRORS_ALLOWED, RED),),
        no_value="no errors",
    )


def _latency() -> model.Panel:
    return leading_to(
        QUEUE,
        lines(
            "Latency",
            "P95 of each model's predictions, waiting in the queue included. The line: the objective, for 99 of 100.",
            "s",
            Query(quantile(0.95, DURATION, MODELS, INTERACTIVE, by=("model",)), "{{model}}"),
            limits=((float(LATENCY_SECONDS), RED),),
        ),
    )


def _outcomes() -> model.Panel:
    return lines(
        "Requests by outcome",
        "Outcomes of requests for their callers. Of a job submission, ok means accepted.",
        "reqps",
        Query(moving_rate(REQUESTS, MODELS, by=("outcome",)), "{{outcome}}"),
    )


def _rejections() -> model.Panel:
    return lines(
        "Rejections by reason",
        "Requests that were rejected, for example without a broker or with a full queue. row_rejected: the model "
        "refuses a row, which is the caller's error.",
        "reqps",
        Query(moving_rate("inference_rejections_total", by=("reason",)), "{{reason}}"),
        no_value="nothing rejected",
    )


def _callers_errors() -> model.Panel:
    invalid = {"invalid": f'outcome="invalid", {KNOWN}', "unknown model": 'model="unknown"'}
    return lines(
        "Callers' errors",
        "Requests with rows that their model can't take, and requests that name no model of the store. They do not "
        "count against the objectives.",
        "reqps",
        *(Query(moving_rate(REQUESTS, matcher), name) for name, matcher in invalid.items()),
        no_value="none",
    )


def _quantiles() -> model.Panel:
    levels = ((0.5, "P50"), (0.95, "P95"), (0.99, "P99"))
    return lines(
        "Latency of all models",
        "Duration of interactive requests that got a prediction, and of accepting a job.",
        "s",
        *(Query(quantile(level, DURATION, MODELS, INTERACTIVE), name) for level, name in levels),
        Query(quantile(0.95, DURATION, MODELS, BULK), "P95 of accepting a job"),
    )


def _distribution() -> model.Panel:
    return heat(
        "Latency distribution",
        "Interactive requests that got a prediction, by duration. Two bands mean two kinds of requests.",
        "s",
        Query(total(increase(f"{DURATION}_bucket", MODELS, INTERACTIVE), "le"), "{{le}}"),
    )


def _in_progress() -> model.Panel:
    return lines(
        "Requests in progress",
        "Requests whose callers wait for an answer at this moment.",
        "short",
        Query(total("inference_requests_in_progress", "lane"), "{{lane}}"),
    )


def _http_rate() -> model.Panel:
    def by_class(answers: str) -> str:
        return total(f'label_replace({answers}, "answers", "$1", "status", "(.).*")', "answers")

    answers = "inference_http_requests_total"
    return lines(
        "HTTP answers by status",
        "All answers of the gateways, to probes and scrapes too: 4xx are errors of callers, 5xx our own.",
        "reqps",
        Query(moving(by_class(rate(answers)), by_class(shown_increase(answers))), "{{answers}}xx"),
    )


def _http_latency() -> model.Panel:
    return lines(
        "HTTP P95 by route",
        "Time inside the gateway. Long polls of jobs wait on purpose.",
        "s",
        Query(
            quantile(0.95, "inference_http_request_duration_seconds", by=("method", "route")), "{{method}} {{route}}"
        ),
    )
