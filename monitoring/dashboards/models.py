"""Panels of all models side by side: one row for each, and the reasons of their failures."""

from grafana_foundation_sdk.models import dashboard as model

from monitoring.dashboards import links
from monitoring.dashboards.colours import GREEN, RED, YELLOW
from monitoring.dashboards.drift import ALERT_WINDOW, PSI_STEPS, RULE
from monitoring.dashboards.layout import Row
from monitoring.dashboards.panels import Column, Query, listing
from monitoring.dashboards.promql import MODELS, agreed, fraction, known, quantile, rate, select, shown_increase, total
from monitoring.dashboards.requests import DURATION, ERRORS_ALLOWED, INTERACTIVE, OUR_FAULT, REQUESTS
from monitoring.rules.drift import FEATURES
from monitoring.rules.slo import LATENCY_SECONDS

CODES_MAX = 10

COUNTED_BY_REASON = "413|429"
"""Statuses of rejections, which have a reason."""

LOAD_TIME_WEIGHT = 1e-12
"""Makes the version that was loaded last win if none has traffic, and changes nothing otherwise."""


def models_row() -> Row:
    """Return the row of the overview with a line for each model."""
    return Row("Models", 8, [(16, links.leading_to(links.MODEL, _models())), (8, _failures())])


def _models() -> model.Panel:
    drift = select(FEATURES.recorded(f"psi{ALERT_WINDOW}"), MODELS)
    return listing(
        "Each model",
        "Requests per second, share of them that failed through our fault, duration that 19 of 20 predictions do not "
        f"exceed, distance (PSI) of the worst feature from the training data over {ALERT_WINDOW}, and the version that "
        f"answers most. {RULE} A model links to its dashboard.",
        Query(total(rate(REQUESTS, MODELS), "model"), "requests"),
        Query(fraction(rate(REQUESTS, MODELS, OUR_FAULT), rate(REQUESTS, MODELS), "model"), "errors"),
        Query(known(quantile(0.95, DURATION, MODELS, INTERACTIVE, by=("model",))), "P95"),
        Query(agreed(drift, "model"), "drift"),
        Query(_answering(), "rows"),
        columns={
            "model": Column(link=links.url(links.MODEL, model="${__value.raw}")),
            "version": Column(shortens_versions=True),
            "requests": Column("reqps", decimals=1),
            "errors": Column(
                "percentunit",
                decimals=2,
                steps=((0, GREEN), (ERRORS_ALLOWED, YELLOW), (10 * ERRORS_ALLOWED, RED)),
            ),
            "P95": Column("s", steps=((0, GREEN), (float(LATENCY_SECONDS), RED))),
            "drift": Column(decimals=3, steps=PSI_STEPS),
        },
        hidden=("Value #E",),
        descending="requests",
        no_value="no model yet",
    )


def _answering() -> str:
    """Return the version of each model that predicts the most rows."""
    rows = total(rate("inference_predictions_total", MODELS), "model", "version")
    loaded = agreed(select("inference_model_loaded_timestamp_seconds", MODELS), "model", "version")
    return f"topk by (model) (1, {rows} + {LOAD_TIME_WEIGHT:g} * {loaded})"


def _failures() -> model.Panel:
    rejected = f'label_replace({shown_increase("inference_rejections_total")}, "code", "$1", "reason", "(.*)")'
    answers = 'method="POST"', 'status=~"4.."', f'status!~"{COUNTED_BY_REASON}"'
    invalid = shown_increase("inference_http_requests_total", *answers)
    invalid = f'label_replace({invalid}, "code", "HTTP $1", "status", "(.*)")'
    return listing(
        "Top failures",
        "Requests for predictions and jobs that were refused, and rows without a prediction, by code, within the time "
        "that is shown. HTTP codes are errors of callers.",
        Query(_most(f"{rejected} or {invalid}"), "requests"),
        Query(_most(shown_increase("inference_errors_total", MODELS)), "rows"),
        columns={"code": Column(), "requests": Column(decimals=0), "rows": Column(decimals=0)},
        descending="requests",
        no_value="nothing failed",
    )


def _most(events: str) -> str:
    return f"topk({CODES_MAX}, {total(events, 'code')} >= 0.5)"
