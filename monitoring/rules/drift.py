"""Rules of drift: the distance of inputs and outputs from the training data, and the confidence of the model.

The formulas and limits are those of `monitoring.drift`. A window has no result before it holds enough rows; alerts use
the shortest of theirs that does, so that a service with little traffic is judged by its day instead of its hour.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headrace.models.manifest import MISSING_BIN, OTHER_BIN
from monitoring import drift
from monitoring.rules.distribution import TRAINING_ROWS, Distribution, Z
from monitoring.rules.drift_alerts import alerts
from monitoring.rules.forms import Rule, group, record, where

FEATURES = Distribution(
    name="inference_feature",
    counter="inference_feature_bin_total",
    reference="inference_feature_reference_ratio",
    infos="inference_feature_bin_info",
    level="feature",
    bin_level="feature_bin",
    bin_label="bin",
)
OUTPUTS = Distribution(
    name="inference_output",
    counter="inference_output_total",
    reference="inference_output_reference_ratio",
    infos="inference_output_bin_info",
    level="target",
    bin_level="output",
    bin_label="output",
)
ALL, BOUNDED = 'le="+Inf"', 'le!="+Inf"'
"""The last bucket, which holds everything, and the others."""

CONFIDENCE = "inference_prediction_confidence"


@dataclass(frozen=True)
class Window:
    """A time to look back on, and how often; None is Prometheus' evaluation interval."""

    length: str
    interval: str | None = None


WINDOWS = (
    # For dashboards: the drift of the demo shows within the minute.
    Window("15m", interval="15s"),
    Window("1h"),
    # Reads a day of samples, and may not be older than 5 minutes when it is used.
    Window("24h", interval="2m"),
)
ALERT_AFTER = "10m"


def rules(windows: Sequence[Window] = WINDOWS, alert_after: str = ALERT_AFTER) -> dict[str, Any]:
    """Return the content of the rule file. `windows` are sorted; the first is for dashboards, alerts use the others."""
    return {
        "groups": [
            group(
                "drift-reference",
                record(TRAINING_ROWS, "max by (model, version) (inference_model_training_rows)"),
                *FEATURES.reference_rules(),
                *OUTPUTS.reference_rules(),
                interval=windows[0].interval,
            ),
            *(group(f"drift-{window.length}", *_rules(window.length), interval=window.interval) for window in windows),
            group(
                "drift-alerts",
                *alerts(FEATURES, OUTPUTS, CONFIDENCE, [window.length for window in windows[1:]], alert_after),
            ),
        ]
    }


def _rules(window: str) -> list[Rule]:
    return [
        *FEATURES.window_rules(window),
        *_share_rules(window),
        *OUTPUTS.window_rules(window),
        *_confidence_rules(window),
    ]


def _share_rules(window: str) -> list[Rule]:
    """Return missing values and values unknown to training, as shares of all rows."""
    counts = FEATURES.recorded_bins(f"increase{window}")
    enough = f"({FEATURES.recorded(f'increase{window}')} >= {drift.ROWS_MIN})"
    buckets = f"feature_le:inference_feature_value:increase{window}"
    # The outermost bounds of the histogram lie a twentieth of the training range beyond it. Buckets are cumulative, so
    # the first one is the smallest and the last one before infinity the largest, whatever their bounds are.
    beyond = "\n".join(
        (
            f"  {FEATURES.total(where(buckets, ALL))}",
            f"  - max by ({FEATURES.within}) ({where(buckets, BOUNDED)})",
            f"  + min by ({FEATURES.within}) ({buckets})",
        )
    )
    missing, other = (FEATURES.total(where(counts, f'bin="{bin_}"')) for bin_ in (MISSING_BIN, OTHER_BIN))
    missing_share, unknown_share = (FEATURES.recorded(f"{kind}_ratio{window}") for kind in ("missing", "out_of_range"))
    return [
        record(missing_share, f"{missing} / {enough}"),
        record(buckets, f"sum by ({FEATURES.within}, le) (increase(inference_feature_value_bucket[{window}]))"),
        record(unknown_share, f"(\n{beyond}\n) / {enough}\nor\n{other} / {enough}"),
        record(FEATURES.recorded(f"missing_excess{window}"), f"{missing_share}\n-\n({_usual(MISSING_BIN, enough)})"),
        # The training rows have no numbers out of range.
        record(
            FEATURES.recorded(f"out_of_range_excess{window}"),
            f"{unknown_share}\n-\n({_usual(OTHER_BIN, enough)})\nor\n{unknown_share}",
        ),
    ]


def _usual(bin_: str, rows: str) -> str:
    """Return the share of a bin in training, plus the most that chance may add to it."""
    share = FEATURES.total(where(FEATURES.recorded_bins("reference_ratio"), f'bin="{bin_}"'))
    return (
        f"{share}\n"
        f"  + {Z} * sqrt(\n"
        f"    {share} * (1 - {share})\n"
        f"    * (1 / {rows} + on (model, version) group_left () (1 / {TRAINING_ROWS}))\n"
        "  )"
    )


def _confidence_rules(window: str) -> list[Rule]:
    buckets = f"version_le:{CONFIDENCE}:increase{window}"
    rows = f'sum by (model, version) ({buckets}{{le="+Inf"}})'
    return [
        record(buckets, f"sum by (model, version, le) (increase({CONFIDENCE}_bucket[{window}]))"),
        record(
            f"version:{CONFIDENCE}:median{window}",
            f"histogram_quantile(0.5, {buckets})\nand\n{rows} >= {drift.ROWS_MIN}",
        ),
        record(
            f"version:{CONFIDENCE}:low_ratio{window}",
            f'sum by (model, version) ({buckets}{{le="{drift.LOW_CONFIDENCE}"}})\n/\n({rows} >= {drift.ROWS_MIN})',
        ),
    ]
