"""Marks on the time axis: model loads, deploys and alerts."""

from grafana_foundation_sdk.builders.dashboard import AnnotationQuery

from monitoring.dashboards.colours import BLUE, PURPLE, RED
from monitoring.dashboards.panels import DATASOURCE
from monitoring.dashboards.promql import OURS, agreed, select

#: Grafana takes the value as milliseconds.
LOADS = f"{agreed('inference_model_loaded_timestamp_seconds', 'model', 'version')} * 1000"

STARTS = (
    f"max by (job, instance, version) ({select('process_start_time_seconds', OURS)}"
    " * on (job, instance) group_left (version) inference_build_info) * 1000"
)

FIRING = """max by (alertname, severity) (ALERTS{alertstate="firing"})"""


def annotations() -> list[AnnotationQuery]:
    """Return the annotations of every dashboard. A deploy shows as starts with another version."""
    return [
        _moments("Model loads", BLUE, LOADS, "{{model}} {{version}} loaded", "model"),
        _moments("Deploys and restarts", PURPLE, STARTS, "{{job}} {{instance}} started, version {{version}}", "job"),
        _annotation("Firing alerts", RED, FIRING, "{{alertname}}", "severity"),
    ]


def _moments(name: str, color: str, expr: str, title: str, tags: str) -> AnnotationQuery:
    """Return an annotation whose value is the time to mark."""
    return _annotation(name, color, expr, title, tags).use_value_for_time(True)


def _annotation(name: str, color: str, expr: str, title: str, tags: str) -> AnnotationQuery:
    return (
        AnnotationQuery()
        .name(name)
        .datasource(DATASOURCE)
        .enable(True)
        .icon_color(color)
        .expr(expr)
        .step("15s")
        .title_format(title)
        .tag_keys(tags)
    )
