"""The dashboards' uids, and how they lead to each other. Alerts name them too."""

from urllib.parse import urlencode

from grafana_foundation_sdk.models import dashboard as model

TAG = "headrace"
OVERVIEW, QUEUE, MODEL, PLATFORM = "headrace-overview", "headrace-queue", "headrace-model", "headrace-platform"
"""The uids."""


def menu() -> model.DashboardLink:
    """A menu of all dashboards; the time and the variables are taken along."""
    return _link(
        "Headrace",
        type_val=model.DashboardLinkType.DASHBOARDS,
        tags=[TAG],
        as_dropdown=True,
        keep_time=True,
        include_vars=True,
    )


def leading_to(uid: str, panel: model.Panel) -> model.Panel:
    """A panel with a link to the dashboard that has more of it: at its title, and of a single number at the number."""
    link = _link("More", url=url(uid))
    panel.links = [link]
    if panel.type_val == "stat" and panel.field_config and panel.field_config.defaults:
        panel.field_config.defaults.links = [link]
    return panel


def url(uid: str, **variables: str) -> str:
    """Where a dashboard is, for the time shown; without `variables`, with the values of those here."""
    chosen = urlencode({f"var-{name}": value for name, value in variables.items()}, safe="${}.")
    return f"/d/{uid}?${{__url_time_range}}&{chosen or '${__all_variables}'}"


def _link(title: str, **properties: object) -> model.DashboardLink:
    link = model.DashboardLink(title, **properties)  # type: ignore[arg-type]
    # The SDK knows one place only, inside a menu; without it, links are in sight.
    link.placement = None  # type: ignore[assignment]
    return link
