"""What makes a dashboard worth its place: it can be read, and its queries mean what they say."""

import re
from typing import Any

import pytest

from tests.monitoring.queries import (
    DashboardQuery,
    Selection,
    all_panels,
    charts,
    dashboard_metric_names,
    dashboard_queries,
    load_dashboards,
    metric_names,
    selections,
    substitute,
    variable_queries,
)

RATES = {"rate", "increase", "irate"}
COUNTER = re.compile(r"_(total|bucket|sum|count)$")

#: Every gateway reads these from Redis and says the same.
SAID_BY_EVERY_GATEWAY = re.compile(
    r"inference_(queue_(depth|oldest_job_age_seconds|unacked)|jobs_(accepted_total|ended_total|open)"
    r"|workers|worker_slots|dead_letters|broker_up)"
)

#: Compares how often things happened since the beginning, so counters themselves are what it needs.
COMPARES_TOTALS = {"Unaccounted jobs", "Accepted − ended − open"}

DASHBOARDS = load_dashboards()
QUERIES = dashboard_queries()

each_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS.keys())
each_query = pytest.mark.parametrize("query", QUERIES, ids=str)


def test_there_are_dashboards() -> None:
    assert "overview.json" in DASHBOARDS
    assert QUERIES


@each_dashboard
def test_it_can_be_provisioned(dashboard: dict[str, Any]) -> None:
    assert dashboard["uid"]
    assert dashboard["editable"] is False
    # File provisioning does not resolve these.
    assert "__inputs" not in dashboard
    assert "${DS_" not in str(dashboard)
    # The old format: the new one is refused by file provisioning.
    assert "schemaVersion" in dashboard


@each_dashboard
def test_it_shows_the_present_and_keeps_showing_it(dashboard: dict[str, Any]) -> None:
    assert dashboard["refresh"] == "10s"
    assert dashboard["time"] == {"from": "now-15m", "to": "now"}


def test_uids_are_unique() -> None:
    uids = [dashboard["uid"] for dashboard in DASHBOARDS.values()]
    assert len(uids) == len(set(uids))


@each_dashboard
def test_panel_ids_are_unique(dashboard: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in all_panels(dashboard)]
    assert all(ids)
    assert len(ids) == len(set(ids))


@each_dashboard
def test_panels_fill_the_grid_without_overlap(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in all_panels(dashboard):
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    height = 1 + max(y for _, y in taken)
    assert taken == {(x, y) for x in range(24) for y in range(height)}


@each_dashboard
def test_every_panel_says_what_it_shows(dashboard: dict[str, Any]) -> None:
    for panel in charts(dashboard):
        assert panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["noValue"], panel["title"]


@each_dashboard
def test_titles_are_unique(dashboard: dict[str, Any]) -> None:
    titles = [panel["title"] for panel in all_panels(dashboard)]
    assert len(titles) == len(set(titles))


@each_dashboard
def test_everything_asks_the_provisioned_datasource(dashboard: dict[str, Any]) -> None:
    askers = [*charts(dashboard), *dashboard["templating"]["list"]]
    askers += [target for panel in charts(dashboard) for target in panel["targets"]]
    for asker in askers:
        assert asker["datasource"] == {"type": "prometheus", "uid": "prometheus"}


@each_dashboard
def test_ref_ids_are_unique_within_a_panel(dashboard: dict[str, Any]) -> None:
    for panel in charts(dashboard):
        ref_ids = [target["refId"] for target in panel["targets"]]
        assert all(ref_ids)
        assert len(ref_ids) == len(set(ref_ids)), panel["title"]


@each_dashboard
def test_several_series_can_be_told_apart(dashboard: dict[str, Any]) -> None:
    for panel in charts(dashboard):
        legends = [target["legendFormat"] for target in panel["targets"]]
        assert len(legends) == len(set(legends)), panel["title"]


@each_query
def test_it_is_promql(query: DashboardQuery) -> None:
    assert selections(query.substituted())


@each_query
def test_legends_name_labels_that_the_result_has(query: DashboardQuery) -> None:
    [panel] = [panel for panel in charts(DASHBOARDS[query.dashboard]) if panel["title"] == query.panel]
    [target] = [target for target in panel["targets"] if target["refId"] == query.ref_id]
    for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
        assert re.search(rf"by \([^)]*\b{label}\b", query.expr), label


@each_query
def test_rates_follow_the_scrape_interval(query: DashboardQuery) -> None:
    for function, period in re.findall(r"(rate|increase)\([^\[]*\[([^\]]*)\]", query.expr):
        allowed = {"$__rate_interval"} | ({"$__range"} if query.instant and function == "increase" else set())
        assert period in allowed


@each_query
def test_counters_are_looked_at_by_their_growth(query: DashboardQuery) -> None:
    for selection in selections(query.substituted()):
        if query.panel not in COMPARES_TOTALS:
            is_growth = bool(selection.functions) and selection.functions[-1] in RATES and selection.is_range
            assert is_growth == bool(COUNTER.search(selection.metric)), selection.metric


@each_query
def test_what_every_gateway_says_is_not_added_up(query: DashboardQuery) -> None:
    for selection in selections(query.substituted()):
        if SAID_BY_EVERY_GATEWAY.fullmatch(selection.metric):
            assert _is_agreed(selection), selection


def _is_agreed(selection: Selection) -> bool:
    operator, by = selection.aggregations[-1]
    return operator in {"max", "min"} or "instance" in by


@each_query
def test_a_sum_of_features_is_not_a_counter(query: DashboardQuery) -> None:
    """It falls when values are negative, and `rate` would take that for a restart."""
    assert "inference_feature_value_sum" not in metric_names(query.substituted())


@each_query
def test_zero_is_the_answer_only_of_queries_without_labels(query: DashboardQuery) -> None:
    """Behind `sum by (label)`, `or vector(0)` adds a series without a name to the others."""
    if "or vector(0)" in query.expr:
        assert all(not by for selection in selections(query.substituted()) for _, by in selection.aggregations)


def test_variables_that_queries_use_exist() -> None:
    for dashboard in DASHBOARDS.values():
        defined = {variable["name"] for variable in dashboard["templating"]["list"]}
        texts = [target["expr"] for panel in charts(dashboard) for target in panel["targets"]]
        texts += [panel["title"] for panel in charts(dashboard)]
        used = {name for text in texts for name in re.findall(r"\$(\w+)", text) if not name.startswith("__")}
        assert used == defined


def test_variables_are_asked_in_promql() -> None:
    for text in variable_queries():
        substitute(text)
    assert {"inference_requests_total", "inference_feature_value_count"} <= dashboard_metric_names()


REQUIRED = {
    "Request rate": "inference_requests_total",
    "Latency": "inference_request_duration_seconds_bucket",
    "Error rate": "inference_requests_total",
    "Quantiles of $feature": "inference_feature_value_bucket",
    "Bins of $feature": "inference_feature_bin_total",
    "Prediction distribution": "inference_output_total",
    "Targets up": "up",
    "Workers": "inference_workers",
    "Broker": "inference_broker_up",
    "Queue depth": "inference_queue_depth",
    "Oldest job": "inference_queue_oldest_job_age_seconds",
    "Queue wait P95": "inference_queue_wait_seconds_bucket",
    "Rows per batch": "inference_batch_rows_bucket",
    "Jobs by outcome": "inference_jobs_ended_total",
    "Accepted − ended − open": "inference_jobs_open",
}


@pytest.mark.parametrize(("panel", "metric"), REQUIRED.items())
def test_the_overview_answers(panel: str, metric: str) -> None:
    queries = [query for query in QUERIES if query.dashboard == "overview.json" and query.panel == panel]
    assert metric in {name for query in queries for name in metric_names(query.substituted())}


def test_the_overview_starts_with_health() -> None:
    rows = [panel["title"] for panel in all_panels(DASHBOARDS["overview.json"]) if panel["type"] == "row"]
    assert rows == ["Health", "Requests", "Queue and workers", "Model", "Rollout", "Input features"]
