"""Dashboards can be read, and their queries are correct for these metrics."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from monitoring.drift import PSI_MAX
from monitoring.preview.values import script_pattern, script_template
from tests.monitoring.queries import (
    DashboardQuery,
    Selection,
    all_panels,
    annotation_queries,
    annotations,
    asked_of_variable,
    charts,
    dashboard_metric_names,
    dashboard_queries,
    load_dashboards,
    metric_names,
    recorded_names,
    rules,
    selections,
    variable_queries,
)

RATES = {"rate", "increase", "irate"}
COUNTER = re.compile(r"_(total|bucket|sum|count)$")

#: Every gateway reads these from Redis and reports the same values.
SAID_BY_EVERY_GATEWAY = re.compile(
    r"inference_(queue_(depth|oldest_job_age_seconds|unacked|estimated_wait_seconds)"
    r"|jobs_(accepted_total|ended_total|rejected_total|open)|workers|worker_slots|dead_letters|broker_(up|memory_(limit_)?bytes))"
)

#: It compares totals since the beginning, so it needs the counters themselves.
COMPARES_TOTALS = {"Unaccounted jobs", "Lost jobs and dead letters"}

DASHBOARDS = load_dashboards()
QUERIES = [*dashboard_queries(), *annotation_queries()]

each_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS.keys())
each_query = pytest.mark.parametrize("query", QUERIES, ids=str)

UIDS = {
    "overview.json": "headrace-overview",
    "queue.json": "headrace-queue",
    "model.json": "headrace-model",
    "platform.json": "headrace-platform",
}


def test_uids_are_those_that_alerts_and_people_know() -> None:
    assert {name: dashboard["uid"] for name, dashboard in DASHBOARDS.items()} == UIDS


def test_alerts_lead_to_dashboards() -> None:
    named = {rule["annotations"]["dashboard"] for rule in rules() if "alert" in rule}
    assert named == set(UIDS.values())


@each_dashboard
def test_it_can_be_provisioned(dashboard: dict[str, Any]) -> None:
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


@each_dashboard
def test_panel_ids_are_unique(dashboard: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in all_panels(dashboard)]
    assert all(ids)
    assert len(ids) == len(set(ids))


@each_dashboard
def test_panels_fill_the_grid_without_overlap(dashboard: dict[str, Any]) -> None:
    _is_full(dashboard["panels"], from_y=0)
    for panel in dashboard["panels"]:
        if panel["type"] == "row" and panel["collapsed"]:
            # Grafana moves the panels below down when the row is opened.
            _is_full(panel["panels"], from_y=panel["gridPos"]["y"] + 1)


def _is_full(panels: list[dict[str, Any]], from_y: int) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    to_y = 1 + max(y for _, y in taken)
    assert taken == {(x, y) for x in range(24) for y in range(from_y, to_y)}


@each_dashboard
def test_panels_can_be_read_on_a_screen_of_1440_pixels(dashboard: dict[str, Any]) -> None:
    """A column of the grid is about 58 pixels wide."""
    for panel in charts(dashboard):
        least = 3 if panel["type"] == "stat" else 6
        assert panel["gridPos"]["w"] >= least, panel["title"]
        assert panel["gridPos"]["h"] >= (4 if panel["type"] == "stat" else 8), panel["title"]


@each_dashboard
def test_what_is_always_shown_is_not_much(dashboard: dict[str, Any]) -> None:
    """Details are in collapsed rows; half of the first screen shows the present moment."""
    assert len([panel for panel in dashboard["panels"] if panel["type"] not in {"row", "stat"}]) <= 20
    first, *others = [panel for panel in dashboard["panels"] if panel["type"] == "row"]
    assert first["title"] == "Now"
    assert first["gridPos"]["y"] == 0 and not first["collapsed"]
    assert others[0]["gridPos"]["y"] <= 9


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
    askers = [*charts(dashboard), *annotations(dashboard)]
    askers += [variable for variable in dashboard["templating"]["list"] if variable["type"] != "custom"]
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
    for label in re.findall(r"\{\{(\w+)\}\}", " ".join(query.texts)):
        made_in_the_query = f'"{label}", "' in query.expr
        assert made_in_the_query or re.search(rf"by \([^)]*\b{label}\b", query.expr), label


@each_query
def test_rates_follow_the_scrape_interval(query: DashboardQuery) -> None:
    """Other windows belong to recording rules, whose series the panels read, or are all of the time that is shown."""
    for period in re.findall(r"\[([^\]]*\](?: @ end\(\))?)", query.expr):
        assert period in {"$__rate_interval]", "$__range] @ end()"}


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
    """A sum falls when values are negative, and `rate` would take that for a restart."""
    assert "inference_feature_value_sum" not in metric_names(query.substituted())


@each_query
def test_zero_is_the_answer_only_of_queries_without_labels(query: DashboardQuery) -> None:
    """Behind `sum by (label)`, `or vector(0)` adds a series without a name to the others."""
    if "or vector(0)" in query.expr:
        assert all(not by for selection in selections(query.substituted()) for _, by in selection.aggregations)


@pytest.mark.parametrize("rule", [rule for rule in rules() if "alert" in rule], ids=lambda rule: str(rule["alert"]))
def test_the_dashboard_of_an_alert_shows_what_it_looks_at(rule: dict[str, Any]) -> None:
    [name] = [name for name, uid in UIDS.items() if uid == rule["annotations"]["dashboard"]]
    shown = [query.substituted(window="1h") for query in dashboard_queries() if query.dashboard == name]
    assert metric_names(rule["expr"]) & {metric for expr in shown for metric in metric_names(expr)}


def test_what_rules_record_exists() -> None:
    named = {name for query in QUERIES for name in metric_names(query.substituted()) if ":" in name}
    assert named and named <= recorded_names()


@pytest.mark.parametrize("window", ["15m", "1h", "24h"])
def test_what_rules_record_exists_for_every_window(window: str) -> None:
    [offered] = [
        variable["query"] for variable in DASHBOARDS["model.json"]["templating"]["list"] if variable["name"] == "window"
    ]
    assert window in offered.split(",")
    over_window = [query.substituted(window=window) for query in QUERIES if "${window}" in query.expr]
    assert len(over_window) > 10
    for expr in over_window:
        named = {name for name in metric_names(expr) if ":" in name}
        assert named and named <= recorded_names()


def test_metrics_are_ours_or_those_of_known_exporters() -> None:
    known = re.compile(
        r"inference_\w+|process_\w+|celery_\w+|prometheus_\w+|up|scrape_\w+|ALERTS(_FOR_STATE)?|\w+:\w+:\w+"
    )
    for name in dashboard_metric_names():
        assert known.fullmatch(name), name


OF_REQUESTS = re.compile(r"(?:inference_request(?:s_total|_duration_seconds_bucket)|slo:\w+:\w+)\{([^}]*)\}")
EACH_MODEL = re.compile(r'"\$model|\{\{model\}\}|by \([^)]*\bmodel\b')


def test_requests_that_name_no_model_are_apart() -> None:
    """A caller can send any number of them: they would fill a legend, and a table would show them as a model."""
    of_models = [query for query in QUERIES if EACH_MODEL.search(" ".join((query.expr, *query.texts)))]
    selected = [(query, matchers) for query in of_models for matchers in OF_REQUESTS.findall(query.expr)]
    assert len(selected) > 10
    for query, matchers in selected:
        assert 'model!="unknown"' in matchers, query
    asked = {query.panel for query in QUERIES if 'model="unknown"' in query.expr}
    assert asked == {"Callers' errors"}
    [models] = [each for each in DASHBOARDS["overview.json"]["templating"]["list"] if each["name"] == "model"]
    assert 'model!="unknown"' in models["query"]


def test_bins_are_shown_by_their_ranges() -> None:
    """A bin has a number as its name, which says nothing to a person."""
    for query in QUERIES:
        assert not re.search(r"\{\{(bin|output)\}\}", " ".join(query.texts)), query
    charts_of_bins = [each for board in DASHBOARDS.values() for each in charts(board) if each["type"] == "barchart"]
    assert {panel["title"] for panel in charts_of_bins} == {"Bins of $feature", "Prediction distribution"}
    for panel in charts_of_bins:
        assert panel["options"]["xField"] == "range"
        sort, hidden = (each["options"] for each in panel["transformations"][1:])
        # Sorted as texts, the ranges would be in another order.
        [by] = [each["field"] for each in sort["sort"]]
        assert by in {"bin", "output"} and hidden["excludeByName"][by]


def test_the_feature_that_is_chosen_first_is_the_worst() -> None:
    [feature] = [each for each in DASHBOARDS["model.json"]["templating"]["list"] if each["name"] == "feature"]
    assert feature["query"].startswith("query_result(sort_desc(max by (feature) (feature:inference_feature:psi")
    assert feature["sort"] == 0 and not feature.get("current")


MOVES = re.compile(r"\{\{(outcome|reason|code|action|answers)\}\}")


@each_query
def test_what_did_not_happen_is_not_in_the_legend(query: DashboardQuery) -> None:
    if MOVES.search(" ".join(query.texts)):
        assert re.search(r" and .*\[\$__range\] @ end\(\).* > 0\b", query.expr)


@pytest.mark.parametrize(
    ("version", "shown"),
    [
        ("20261127T073733Z", "1127T073733"),
        ("9fceb02d0ae598e95dc970b74767f19372d61af8", "9fceb02d"),
        ("v1", "v1"),
        ("2026-11-27", "2026-11-27"),
    ],
)
def test_versions_are_short(version: str, shown: str) -> None:
    patterns = set()
    for panel in (panel for board in DASHBOARDS.values() for panel in charts(board)):
        names = [target["legendFormat"] for target in panel["targets"]]
        renamed = [each["options"] for each in panel.get("transformations") or [] if each["id"] == "renameByRegex"]
        assert len(renamed) == bool(re.search(r"\{\{(version|shadow)\}\}", " ".join(names))), panel["title"]
        patterns |= {(each["regex"], each["renamePattern"]) for each in renamed}
    [(pattern, instead)] = patterns
    assert script_pattern(pattern).sub(script_template(instead), f"iris {version} age") == f"iris {shown} age"


def _texts(dashboard: dict[str, Any]) -> Iterator[str]:
    """Yield all texts into which Grafana puts the values of variables."""
    for panel in all_panels(dashboard):
        yield from (panel["title"], panel.get("description", ""), f"${panel.get('repeat') or '__none'}")
        yield from (part for target in panel.get("targets", []) for part in (target["expr"], target["legendFormat"]))
        yield from _urls(panel)
    yield from (annotation["expr"] for annotation in annotations(dashboard))
    yield from (variable["query"] for variable in dashboard["templating"]["list"])


@each_dashboard
def test_variables_are_there_and_used(dashboard: dict[str, Any]) -> None:
    defined = {variable["name"] for variable in dashboard["templating"]["list"]}
    names = {name for text in _texts(dashboard) for name in re.findall(r"\$\{?([a-z_]\w*)", text)}
    assert {name for name in names if not name.startswith("__")} == defined


def test_variables_are_asked_in_promql() -> None:
    for text in variable_queries():
        assert selections(asked_of_variable(text))


def test_one_model_is_compared_as_it_is() -> None:
    """Grafana escapes the values of a variable as a pattern only if it may have several."""
    for name, dashboard in DASHBOARDS.items():
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                operator = "=~" if variable["multi"] else "="
                uses = [
                    re.findall(rf'\b\w+(=~?)"\${variable["name"]}\b', query.expr)
                    for query in QUERIES
                    if query.dashboard == name
                ]
                assert {found for use in uses for found in use} == {operator}, variable["name"]


def test_versions_are_never_added_up() -> None:
    """Versions have bins and buckets of their own. A repeated row sees one version at a time."""
    [repeated] = [panel for panel in all_panels(DASHBOARDS["model.json"]) if panel.get("repeat")]
    assert repeated["repeat"] == "version"
    following = DASHBOARDS["model.json"]["panels"][DASHBOARDS["model.json"]["panels"].index(repeated) + 1 :]
    alone = {panel["title"] for panel in _until_row(following)}
    assert alone
    of_versions = re.compile(r"(feature_|output_|prediction_confidence)\w*(_bucket|_bin_total|output_total)")
    for query in QUERIES:
        if of_versions.search(query.expr) and not (query.dashboard == "model.json" and query.panel in alone):
            assert re.search(r"by \([^)]*\bversion\b", query.expr), query


def _until_row(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in panels:
        if panel["type"] == "row":
            return
        yield panel


def _urls(panel: dict[str, Any]) -> Iterator[str]:
    yield from (link["url"] for link in panel.get("links") or [])
    config = panel.get("fieldConfig", {"defaults": {}, "overrides": []})
    yield from (link["url"] for link in config["defaults"].get("links") or [])
    for override in config["overrides"]:
        for setting in override["properties"]:
            if setting["id"] == "links":
                yield from (link["url"] for link in setting["value"])


@each_dashboard
def test_links_lead_to_dashboards(dashboard: dict[str, Any]) -> None:
    variables = {
        board["uid"]: {variable["name"] for variable in board["templating"]["list"]} for board in DASHBOARDS.values()
    }
    for url in (url for panel in charts(dashboard) for url in _urls(panel)):
        match = re.fullmatch(r"/d/([\w-]+)\?\$\{__url_time_range\}&(.+)", url)
        assert match, url
        assert match[1] in variables
        assert set(re.findall(r"var-(\w+)=", match[2])) <= variables[match[1]]


@each_dashboard
def test_a_menu_leads_to_all_dashboards(dashboard: dict[str, Any]) -> None:
    [menu] = dashboard["links"]
    assert (menu["title"], menu["type"], menu["tags"]) == ("Headrace", "dashboards", ["headrace"])
    assert menu["asDropdown"] and menu["keepTime"] and menu["includeVars"]
    # With a placement, the link would be inside another menu.
    assert "placement" not in menu
    assert "headrace" in dashboard["tags"]


def test_the_overview_leads_to_all_others() -> None:
    urls = {url for panel in charts(DASHBOARDS["overview.json"]) for url in _urls(panel)}
    assert {url.split("?")[0] for url in urls} == {f"/d/{uid}" for uid in UIDS.values() if uid != "headrace-overview"}


@each_dashboard
def test_changes_are_marked(dashboard: dict[str, Any]) -> None:
    marks = {annotation["name"]: annotation for annotation in annotations(dashboard)}
    assert set(marks) == {"Model loads", "Deploys and restarts", "Firing alerts"}
    for name, mark in marks.items():
        is_moment = name != "Firing alerts"
        assert mark["enable"] and mark["titleFormat"]
        assert mark.get("useValueForTime", False) is is_moment
        # Grafana takes the value as milliseconds.
        assert mark["expr"].endswith("* 1000") is is_moment


def thresholds(dashboard: str, title: str) -> list[float]:
    [panel] = [panel for panel in charts(DASHBOARDS[dashboard]) if panel["title"] == title]
    return [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1:]]


def test_limits_are_those_of_the_alerts() -> None:
    """The limits come from the committed rules, not from the constants that the source imports."""
    exprs = {rule["alert"]: rule["expr"] for rule in rules() if "alert" in rule}
    assert f"> {PSI_MAX}" in exprs["FeatureDrift"] and thresholds("model.json", "PSI of each feature")[-1] == PSI_MAX
    for limit in thresholds("overview.json", "Burn rate"):
        burns = exprs["HeadraceErrorBudgetBurnFast"] + exprs["HeadraceErrorBudgetBurnSlow"]
        assert re.search(rf"> {limit:g}\s", burns)
    assert "> 30\n" in exprs["HeadraceQueueNotDraining"] and thresholds("queue.json", "Oldest entry") == [30]
    assert exprs["HeadraceQueueSaturated"].endswith("> 0.8")
    assert thresholds("queue.json", "Saturation by limit") == [0.8]
    assert exprs["HeadraceSampleLimitNear"].endswith("> 0.8")
    assert thresholds("platform.json", "Share of the sample limit") == [0.8]
    assert "> 2\n" in exprs["HeadraceScrapeSlow"] and thresholds("platform.json", "Scrape duration") == [2]


REQUIRED = {
    "overview.json": {
        "Traffic": "inference_requests_total",
        "Success": "inference_requests_total",
        "P95 latency": "inference_request_duration_seconds_bucket",
        "Queue depth": "inference_queue_depth",
        "Workers": "inference_workers",
        "Firing alerts": "ALERTS",
        "Targets up": "up",
        "Broker": "inference_broker_up",
        "Request rate": "inference_requests_total",
        "Latency": "inference_request_duration_seconds_bucket",
        "Error rate": "inference_requests_total",
        "Rejections by reason": "inference_rejections_total",
        "Error budget": "slo:inference_budget_left:ratio30d",
        "Burn rate": "slo:inference_burn:rate1h",
        "Input features": "inference_feature_value_bucket",
        "Predictions by output": "inference_output_total",
        "Drift": "feature:inference_feature:psi1h",
    },
    "queue.json": {
        "Depth by lane": "inference_queue_depth",
        "Oldest entry": "inference_queue_oldest_job_age_seconds",
        "Estimated wait": "inference_queue_estimated_wait_seconds",
        "Saturation by limit": "limit:inference_saturation:ratio",
        "Queue, compute and total": "inference_compute_seconds_bucket",
        "Queue wait, interactive": "inference_queue_wait_seconds_bucket",
        "Slots in use": "inference_batches_in_progress",
        "Rows per batch": "inference_batch_rows_bucket",
        "Memory of the children": "inference_worker_children_memory_bytes",
        "Jobs by outcome": "inference_jobs_ended_total",
        "Lost jobs and dead letters": "inference_jobs_open",
        "Celery tasks": "celery_task_succeeded_total",
        "Celery workers up": "celery_worker_up",
        "Active tasks": "celery_worker_tasks_active",
    },
    "model.json": {
        "Prediction distribution": "output:inference_output:reference_ratio",
        "Bins of $feature": "feature_bin:inference_feature:reference_ratio",
        "Quantiles of $feature": "inference_feature_value_bucket",
        "Each feature against training": "feature:inference_feature:psi_noise15m",
        "Confidence": "inference_prediction_confidence_bucket",
        "Low confidence": "version:inference_prediction_confidence:low_ratio15m",
        "Shadow agreement": "inference_shadow_rows_total",
        "Loads and refusals": "inference_model_loads_total",
        "Loaded versions": "inference_model_info",
    },
    "platform.json": {
        "Open alerts": "ALERTS",
        "Up by target": "up",
        "Scrape duration": "scrape_duration_seconds",
        "Share of the sample limit": "scrape_samples_scraped",
        "Rule evaluation": "prometheus_rule_group_last_duration_seconds",
        "Rule failures": "prometheus_rule_evaluation_failures_total",
        "Process memory": "process_resident_memory_bytes",
        "Uptime": "process_start_time_seconds",
        "Broker memory": "inference_broker_memory_bytes",
        "Builds": "inference_build_info",
    },
}


@pytest.mark.parametrize("dashboard", REQUIRED)
def test_it_answers(dashboard: str) -> None:
    for panel, metric in REQUIRED[dashboard].items():
        queries = [query for query in QUERIES if (query.dashboard, query.panel) == (dashboard, panel)]
        assert metric in {name for query in queries for name in metric_names(query.substituted())}, panel
