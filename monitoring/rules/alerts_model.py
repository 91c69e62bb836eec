"""Alerts about models and their versions: refused versions, refused rows, versions that answer side by side."""

from typing import Any

from monitoring.rules.forms import INTERVAL, alert, grew, group

#: Versions that have answered, not those that are loaded: workers keep versions for calls that name them.
ANSWERING = 'sum by (model, version) (rate(inference_predictions_total{outcome="ok"}[10m])) > 0'

ROWS_REJECTED_RATIO, ROWS_REJECTED_AT_LEAST = 0.05, 20
ROWS_REJECTED = 'sum by (model, version) (increase(inference_errors_total{code="row_rejected"}[10m]))'


def rules() -> dict[str, Any]:
    """Return the alerts."""
    return {
        "groups": [
            group(
                "alerts-model",
                alert(
                    "HeadraceModelRefused",
                    grew('inference_model_loads_total{outcome="refused"}', "15m", "model"),
                    wait="0s",
                    severity="warning",
                    dashboard="headrace-model",
                    summary="Workers refuse a version of {{ $labels.model }}",
                    description="About {{ $value | humanize }} loads were refused in 15 minutes. Callers still get the "
                    "previous version, if there is one; otherwise 503 model_unavailable.",
                ),
                alert(
                    "HeadraceRowsRejected",
                    f"""
{ROWS_REJECTED} / sum by (model, version) (increase(inference_predictions_total[10m])) > {ROWS_REJECTED_RATIO}
and {ROWS_REJECTED} >= {ROWS_REJECTED_AT_LEAST}
""",
                    wait="5m",
                    severity="warning",
                    dashboard="headrace-model",
                    summary="{{ $labels.model }} {{ $labels.version }} refuses many rows",
                    description="{{ $value | humanizePercentage }} of the rows of the last 10 minutes got 422 "
                    "row_rejected: the estimator raises for them, or answers NaN. No objective counts them.",
                ),
                alert(
                    "HeadraceModelVersionSkew",
                    f"count by (model) ({ANSWERING}) > 1",
                    wait="30m",
                    severity="info",
                    dashboard="headrace-model",
                    summary="Several versions of {{ $labels.model }} answer",
                    description="{{ $value }} versions have predicted for half an hour. This is right during a trial, "
                    "or if callers name versions; otherwise a worker or a gateway has not followed an alias.",
                ),
                interval=INTERVAL,
            )
        ]
    }
