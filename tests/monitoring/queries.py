"""The committed dashboards as tests need them: queries of panels, annotations and variables, and their metrics."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import promql_parser as promql
import yaml

DASHBOARDS = Path(__file__).parents[2] / "monitoring" / "grafana" / "dashboards"
RULES = Path(__file__).parents[2] / "monitoring" / "prometheus" / "rules"

VARIABLES = {
    "__rate_interval": "1m",
    "__interval": "15s",
    "__range": "15m",
    "window": "15m",
    "instance": ".*",
    "version": ".*",
    # The model's dashboard compares these with `=`, so a test that runs the queries names existing ones.
    "model": ".*",
    "feature": "feature",
}
"""Values for Grafana's variables."""


@dataclass(frozen=True)
class DashboardQuery:
    """A query of a panel or an annotation, as Grafana would send it except for its variables."""

    dashboard: str
    panel: str
    ref_id: str
    expr: str
    instant: bool
    texts: tuple[str, ...] = ()
    """Legends and texts, which name labels of the result as `{{label}}`."""

    def substituted(self, **variables: str) -> str:
        """Return the query with values for its variables."""
        return substitute(self.expr, VARIABLES | variables)

    def __str__(self) -> str:
        return f"{self.dashboard} / {self.panel} / {self.ref_id}"


@dataclass(frozen=True)
class Selection:
    """A metric inside an expression, and the operators around it, from the outside to the inside."""

    metric: str
    functions: tuple[str, ...]
    aggregations: tuple[tuple[str, frozenset[str]], ...]
    """(operator, labels of its `by`)."""
    is_range: bool


def load_dashboards() -> dict[str, dict[str, Any]]:
    """Return file name and dashboard."""
    return {path.name: json.loads(path.read_text("utf-8")) for path in sorted(DASHBOARDS.glob("*.json"))}


def all_panels(dashboard: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield rows and panels, those inside collapsed rows too."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def charts(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Yield every panel with data."""
    return [panel for panel in all_panels(dashboard) if panel["type"] != "row"]


def dashboard_queries() -> list[DashboardQuery]:
    """Return every query of every panel of every dashboard."""
    return [
        DashboardQuery(
            name,
            panel["title"],
            target["refId"],
            target["expr"],
            bool(target.get("instant")),
            (target["legendFormat"],),
        )
        for name, dashboard in load_dashboards().items()
        for panel in charts(dashboard)
        for target in panel["targets"]
    ]


def annotations(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return our annotations; Grafana adds one of its own to every dashboard."""
    return [annotation for annotation in dashboard["annotations"]["list"] if not annotation.get("builtIn")]


def annotation_queries() -> list[DashboardQuery]:
    """Return every query of every annotation of every dashboard."""
    return [
        DashboardQuery(
            name,
            f"annotation {annotation['name']}",
            "annotation",
            annotation["expr"],
            instant=False,
            texts=(annotation["titleFormat"], annotation.get("textFormat", "")),
        )
        for name, dashboard in load_dashboards().items()
        for annotation in annotations(dashboard)
    ]


def variable_queries() -> list[str]:
    """Return the queries of variables, such as `label_values(metric, label)`, each once."""
    asked = {
        variable["query"]: None
        for dashboard in load_dashboards().values()
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    }
    return list(asked)


def substitute(text: str, variables: Mapping[str, str] = VARIABLES) -> str:
    """Put values in the place of `$name` and `${name}`.

    Raises:
        KeyError: if there is no value for a variable.
    """
    return re.sub(r"\$(?:\{([a-z_]\w*)\}|([a-z_]\w*))", lambda match: variables[match[1] or match[2]], text)


def selections(expr: str) -> list[Selection]:
    """Yield every use of a metric in an expression without variables."""
    return list(_walk(promql.parse(expr), (), (), is_range=False))


def metric_names(expr: str) -> set[str]:
    """Return the names in an expression: of a histogram `…_bucket`, `…_sum` or `…_count`."""
    return {selection.metric for selection in selections(expr)}


def asked_of_variable(text: str) -> str:
    """Return the PromQL in the query of a variable, `label_values(…, label)` or `query_result(…)`."""
    match = re.fullmatch(r"label_values\((.+), \w+\)|query_result\((.+)\)", substitute(text))
    assert match, f"not understood: {text}"
    return match[1] or match[2]


def dashboard_metric_names() -> set[str]:
    """Return all metrics that the dashboards read, in panels, annotations and variables."""
    asked = [query.substituted() for query in (*dashboard_queries(), *annotation_queries())]
    asked += [asked_of_variable(text) for text in variable_queries()]
    return {name for expr in asked for name in metric_names(expr)}


def rules() -> list[dict[str, Any]]:
    """Return all recording and alerting rules."""
    return [
        rule
        for path in sorted(RULES.glob("*.yml"))
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
        for rule in group["rules"]
    ]


def recorded_names() -> set[str]:
    """Return the names of recorded series."""
    return {rule["record"] for rule in rules() if "record" in rule}


def rule_metric_names() -> set[str]:
    """Return all metrics that rules read, without recorded series."""
    return {name for rule in rules() for name in metric_names(rule["expr"])} - recorded_names()


def _walk(
    node: Any, functions: tuple[str, ...], aggregations: tuple[tuple[str, frozenset[str]], ...], is_range: bool
) -> Iterator[Selection]:
    if isinstance(node, promql.VectorSelector):
        yield Selection(node.name or "", functions, aggregations, is_range)
    elif isinstance(node, promql.MatrixSelector):
        yield from _walk(node.vector_selector, functions, aggregations, is_range=True)
    elif isinstance(node, promql.AggregateExpr):
        by = node.modifier.labels if node.modifier and node.modifier.type == promql.AggModifierType.By else []
        yield from _walk(node.expr, functions, (*aggregations, (str(node.op), frozenset(by))), is_range)
    elif isinstance(node, promql.Call):
        for argument in node.args:
            yield from _walk(argument, (*functions, node.func.name), aggregations, is_range)
    elif isinstance(node, promql.BinaryExpr):
        yield from _walk(node.lhs, functions, aggregations, is_range)
        yield from _walk(node.rhs, functions, aggregations, is_range)
    elif isinstance(node, (promql.ParenExpr, promql.UnaryExpr, promql.SubqueryExpr)):
        yield from _walk(node.expr, functions, aggregations, is_range)
    else:
        assert isinstance(node, (promql.NumberLiteral, promql.StringLiteral)), f"not understood: {type(node)}"
