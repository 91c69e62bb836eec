"""The series that a worker exports about a model, for promtool: counters that rise steadily, so that `increase` over
any window is exact, whether or not the window holds its first instant.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monitoring.rules.__main__ import FOLDER
from monitoring.rules.drift import rules
from tests.support.promtool import run_rules

MODEL = {"model": "sticks", "version": "v1"}
STEP_MINUTES = 5
STEPS = 26 * 60 // STEP_MINUTES
AT = "26h"
"""The time of the queries, when all windows are full. Rules are evaluated once an hour, which is 30 times as fast."""


@dataclass
class Worked:
    """The series of a replica with this name."""

    instance: str = "worker1"
    series: list[dict[str, str]] = field(default_factory=list)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Add a constant value."""
        self._add(name, f"{value!r}+0x{STEPS}", labels)

    def counter(self, name: str, per_minute: float, **labels: str) -> None:
        """Add a counter that has risen for long."""
        self._add(name, f"100000+{per_minute * STEP_MINUTES!r}x{STEPS}", labels)

    def trained_on(self, rows: int) -> None:
        """Add the number of training rows."""
        self.gauge("inference_model_training_rows", rows)

    def feature(
        self, name: str, per_minute: Sequence[float], reference: Sequence[float], last: str | None = None
    ) -> None:
        """Add a feature's bins: "00", "01", …, the last one perhaps `missing` or `other`."""
        for bin_, count, share in zip(bins(len(reference), last), per_minute, reference, strict=True):
            self.gauge("inference_feature_reference_ratio", share, feature=name, bin=bin_)
            self.counter("inference_feature_bin_total", count, feature=name, bin=bin_)

    def output(self, per_minute: Sequence[float], reference: Sequence[float], **target: str) -> None:
        """Add an output's bins."""
        for bin_, count, share in zip(bins(len(reference)), per_minute, reference, strict=True):
            self.gauge("inference_output_reference_ratio", share, output=bin_, **target)
            self.counter("inference_output_total", count, output=bin_, **target)

    def histogram(self, name: str, cumulative: Mapping[str, float], **labels: str) -> None:
        """Add the buckets of a histogram."""
        for bound, per_minute in cumulative.items():
            self.counter(f"{name}_bucket", per_minute, le=bound, **labels)

    def _add(self, name: str, values: str, labels: Mapping[str, str]) -> None:
        every = {"instance": self.instance, **MODEL, **labels}
        text = ", ".join(f'{label}="{value}"' for label, value in every.items())
        self.series.append({"series": f"{name}{{{text}}}", "values": values})


def bins(count: int, last: str | None = None) -> list[str]:
    """Return the names of so many bins."""
    names = [f"{at:02d}" for at in range(count)]
    return [*names[:-1], last] if last else names


def run_drift_rules(folder: Path, series: Sequence[Mapping[str, str]], *queries: Mapping[str, Any]) -> None:
    """Check the results of the committed rules for these series."""
    test = {"interval": f"{STEP_MINUTES}m", "input_series": list(series), "promql_expr_test": list(queries)}
    order = [group["name"] for group in rules()["groups"]]
    run_rules(folder, [FOLDER / "drift.yml"], [test], evaluation="1h", group_order=order)


def near(metric: str, value: float, labels: Mapping[str, str], at: str = AT) -> dict[str, Any]:
    """Return a query of promtool: one series with these labels, equal up to 1e-6."""
    every = {**MODEL, **labels}
    matchers = ", ".join(f'{label}="{text}"' for label, text in every.items())
    return {
        "expr": f"abs({metric}{{{matchers}}} - {value!r}) < bool 1e-6",
        "eval_time": at,
        "exp_samples": [{"labels": f"{{{matchers}}}", "value": 1}],
    }


def absent(expression: str, at: str = AT) -> dict[str, Any]:
    """Return a query of promtool that has no result."""
    return {"expr": expression, "eval_time": at, "exp_samples": []}


def firing(alert: str, at: str = AT, **labels: str) -> dict[str, Any]:
    """Return a query of promtool: this alert fires once, with these labels beside the model's."""
    every = {"alertname": alert, "alertstate": "firing", "severity": "warning", **MODEL, **labels}
    text = ", ".join(f'{label}="{value}"' for label, value in every.items())
    return {
        "expr": f'ALERTS{{alertname="{alert}"}}',
        "eval_time": at,
        "exp_samples": [{"labels": f"ALERTS{{{text}}}", "value": 1}],
    }
