"""The forms of rules.

Recording rules are named `level:metric:operations`; the level says which labels are left beside `model` and `version`.
"""

from typing import Any, Literal

Rule = dict[str, Any]
Severity = Literal["critical", "warning", "info"]


INTERVAL = "15s"
"""Time between two evaluations of an alert."""


def where(metric: str, matcher: str) -> str:
    """Return the series of a metric whose labels match."""
    return f"{metric}{{{matcher}}}"


def record(name: str, expression: str, **labels: str) -> Rule:
    """Return a rule that records a series, with `labels` beside those of the expression."""
    return {"record": name, "expr": expression, **({"labels": labels} if labels else {})}


def alert(
    name: str,
    expression: str,
    *,
    wait: str,
    severity: Severity,
    summary: str,
    description: str,
    dashboard: str,
) -> Rule:
    """Return an alert that fires once the expression has had a result for `wait`, such as `10m`.

    `summary` and `description` are templates of Prometheus; `dashboard` is the uid of one. The runbook has a section
    under the alert's name.
    """
    return {
        "alert": name,
        "expr": expression.strip(),
        "for": wait,
        "labels": {"severity": severity},
        "annotations": {
            "summary": summary,
            "description": description,
            "runbook_url": f"docs/runbook.md#{name.lower()}",
            "dashboard": dashboard,
        },
    }


def group(name: str, *rules: Rule, interval: str | None = None) -> dict[str, Any]:
    """Return rules that are evaluated in this order, by default once a minute; later ones can use earlier ones."""
    return {"name": name, **({"interval": interval} if interval else {}), "rules": list(rules)}


def grew(counter: str, within: str, *by: str) -> str:
    """Return the growth of a counter, if any. `increase` alone sees no step of one that did not exist before."""
    total = f"sum by ({', '.join(by)})"
    return f"""\
{total} (increase({counter}[{within}])) > 0
or
({total} ({counter}) > 0 unless {total} ({counter} offset {within}))"""
