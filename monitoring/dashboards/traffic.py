"""The row of requests as callers see them: rate, errors, duration."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards.panels import Query, Row, heat, lines
from monitoring.dashboards.promql import MODEL, fraction, increase, quantile, rate, total

REQUESTS = "inference_requests_total"
DURATION = "inference_request_duration_seconds"
INTERACTIVE, BULK = 'lane="interactive"', 'lane="bulk"'


def traffic_row() -> Row:
    """RED of predictions, then what lies behind it."""
    return Row(
        "Requests",
        8,
        [
            (8, _rate()),
            (8, _errors()),
            (8, _latency()),
            (8, _distribution()),
            (8, _rejections()),
            (8, _in_progress()),
            (12, _http_rate()),
            (12, _http_latency()),
        ],
    )


def _rate() -> model.Panel:
    return lines(
        "Request rate",
        "Prediction requests by lane and outcome. In the bulk lane, ok means accepted as a job.",
        "reqps",
        Query(total(rate(REQUESTS, MODEL), "lane", "outcome"), "{{lane}} {{outcome}}"),
    )


def _errors() -> model.Panel:
    return lines(
        "Error rate",
        "Share of the requests that got no prediction through our fault (rejected, failed, timeout), and share that "
        "was refused because the caller sent something invalid.",
        "percentunit",
        Query(
            fraction(rate(REQUESTS, MODEL, 'outcome=~"rejected|failed|timeout"'), rate(REQUESTS, MODEL)), "our fault"
        ),
        Query(fraction(rate(REQUESTS, MODEL, 'outcome="invalid"'), rate(REQUESTS, MODEL)), "invalid"),
        limit=0.01,
    )


def _latency() -> model.Panel:
    levels = ((0.5, "P50"), (0.95, "P95"), (0.99, "P99"))
    return lines(
        "Latency",
        "Interactive requests that got a prediction, waiting in the queue included; and how long it took to accept a "
        "job.",
        "s",
        *(Query(quantile(level, DURATION, MODEL, INTERACTIVE), name) for level, name in levels),
        Query(quantile(0.95, DURATION, MODEL, BULK), "P95 of accepting a job"),
    )


def _distribution() -> model.Panel:
    return heat(
        "Latency distribution",
        "Interactive requests that got a prediction, by duration. Two bands mean two kinds of requests.",
        "s",
        Query(total(increase(f"{DURATION}_bucket", MODEL, INTERACTIVE), "le"), "{{le}}"),
    )


def _rejections() -> model.Panel:
    return lines(
        "Rejections by reason",
        "Requests that were turned away before any work: no broker, no worker, full queue, too large.",
        "reqps",
        Query(total(rate("inference_rejections_total"), "reason"), "{{reason}}"),
    )


def _in_progress() -> model.Panel:
    return lines(
        "Requests in progress",
        "Callers that wait for an answer right now.",
        "short",
        Query(total("inference_requests_in_progress", "lane"), "{{lane}}"),
    )


def _http_rate() -> model.Panel:
    return lines(
        "HTTP answers by status",
        "Everything that the gateways answered, probes and scrapes included.",
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
