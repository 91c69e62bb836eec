"""Panels of requests as callers see them: rate, errors, duration."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.layout import Row
from monitoring.dashboards.links import QUEUE, leading_to
from monitoring.dashboards.panels import GREEN, NO_TRAFFIC, RED, YELLOW, Query, heat, lines, number
from monitoring.dashboards.promql import MODELS, fraction, increase, quantile, rate, total
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
        Query(quantile(0.95, DURATION, MODELS, INTERACTIVE)),
        steps=((0, GREEN), (float(LATENCY_SECONDS), RED)),
        no_value=NO_TRAFFIC,
    )


def requests_row() -> Row:
    """Return the row of rate, errors and duration of each model."""
    return Row("Requests", 8, [(8, _rate()), (8, _errors()), (8, _latency()), (12, _rejections()), (12, _outcomes())])


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
        "Prediction requests (interactive) and job submissions (bulk) of each model.",
        "reqps",
        Query(total(rate(REQUESTS, MODELS), "model", "lane"), "{{model}} {{lane}}"),
    )


def _errors() -> model.Panel:
    return lines(
        "Error rate",
        "Share of each model's requests that failed through our fault (rejected, failed, timeout), and share of all "
        "requests that were invalid or named an unknown model. The line: the share that the objective allows.",
        "percentunit",
        Query(fraction(rate(REQUESTS, MODELS, OUR_FAULT), rate(REQUESTS, MODELS), "model"), "{{model}} our fault"),
        Query(fraction(rate(REQUESTS, MODELS, 'outcome="invalid"'), rate(REQUESTS, MODELS)), "invalid"),
        limits=((ERRORS_ALLOWED, RED),),
    )


def _latency() -> model.Panel:
    return leading_to(
        QUEUE,
        lines(
            "Latency",
            "P95 of each model's predictions, waiting in the queue included. The line: the objective, for 99 of 100.",
            "s",
            Query(quantile(0.95, DURATION, MODELS, INTERACTIVE, by=("model",)), "P95 {{model}}"),
            limits=((float(LATENCY_SECONDS), RED),),
        ),
    )


def _rejections() -> model.Panel:
    return lines(
        "Rejections by reason",
        "Requests that were rejected before any work, for example without a broker or with a full queue.",
        "reqps",
        Query(total(rate("inference_rejections_total"), "reason"), "{{reason}}"),
    )


def _outcomes() -> model.Panel:
    return lines(
        "Requests by outcome",
        "Outcomes of requests for their callers. In the bulk lane, ok means accepted as a job.",
        "reqps",
        Query(total(rate(REQUESTS, MODELS), "lane", "outcome"), "{{lane}} {{outcome}}"),
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
    return lines(
        "HTTP answers by status",
        "All answers of the gateways, to probes and scrapes too.",
        "reqps",
        Query(total(rate("inference_http_requests_total"), "status"), "{{status}}"),
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
