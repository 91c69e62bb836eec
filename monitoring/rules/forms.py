"""The forms that a rule takes.

Recording rules are named `level:metric:operations`; the level says which labels are left beside `model` and `version`.
"""

from typing import Any, Literal

Rule = dict[str, Any]
Severity = Literal["critical", "warning", "info"]


INTERVAL = "15s"
"""How often alerts are evaluated."""


def where(metric: str, matcher: str) -> str:
    """The series of a metric whose labels match."""
    return f"{metric}{{{matcher}}}"


def record(name: str, expression: str, **labels: str) -> Rule:
    """A series that is computed at every evaluation, with `labels` beside those of the expression."""
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
    """An alert that fires once the expression has had a result for `wait`, such as `10m`.

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
    """Rules that are evaluated in this order, so that later ones can use earlier ones; by default once a minute."""
    return {"name": name, **({"interval": interval} if interval else {}), "rules": list(rules)}


def grew(counter: str, within: str, *by: str) -> str:
    """What a counter grew by, if it did: also one that did not exist before, of which `increase` sees no step."""
    total = f"sum by ({', '.join(by)})"
    return f"""\
{total} (increase({counter}[{within}])) > 0
or
({total} ({counter}) > 0 unless {total} ({counter} offset {within}))"""
