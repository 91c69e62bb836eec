"""The uids of the dashboards, which alerts name too, and the links between them."""

from urllib.parse import urlencode

from grafana_foundation_sdk.models import dashboard as model

TAG = "headrace"
OVERVIEW, QUEUE, MODEL, PLATFORM = "headrace-overview", "headrace-queue", "headrace-model", "headrace-platform"
"""The uids."""


def menu() -> model.DashboardLink:
    """Return a menu of all dashboards; links keep the time and the variables."""
    return _link(
        "Headrace",
        type_val=model.DashboardLinkType.DASHBOARDS,
        tags=[TAG],
        as_dropdown=True,
        keep_time=True,
        include_vars=True,
    )


def leading_to(uid: str, panel: model.Panel) -> model.Panel:
    """Add a link to the dashboard with more details: at the title, and at the number of a panel with a single one."""
    link = _link("More", url=url(uid))
    panel.links = [link]
    if panel.type_val == "stat" and panel.field_config and panel.field_config.defaults:
        panel.field_config.defaults.links = [link]
    return panel


def url(uid: str, **variables: str) -> str:
    """Return the address of a dashboard, with the time shown here, and with these variables or those shown here."""
    chosen = urlencode({f"var-{name}": value for name, value in variables.items()}, safe="${}.")
    return f"/d/{uid}?${{__url_time_range}}&{chosen or '${__all_variables}'}"


def _link(title: str, **properties: object) -> model.DashboardLink:
    link = model.DashboardLink(title, **properties)  # type: ignore[arg-type]
    # The SDK offers one place only, inside a menu; without it, the links are visible.
    link.placement = None  # type: ignore[assignment]
    return link
