"""The kinds of panels, with the options of all our dashboards."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TypeVar

from grafana_foundation_sdk.builders import barchart, common, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    DataSourceRef,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from monitoring.dashboards.colours import BLUE, GREEN, fixed

DATASOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
"""The uid that provisioning gives it; `${DS_…}` placeholders work only when a person imports a dashboard."""

ONLY = "__auto"
"""The legend of a single series."""

NO_TRAFFIC = "no traffic yet"
UNKNOWN = "unknown"

LONG_VERSION, SHORT_VERSION = r"\b(?:\d{4}(\d{4}T\d{6})Z|([0-9a-f]{8})[0-9a-f]{32})\b", "$1$2"
"""A time of export or a commit as a version, and its parts that are shown: `1127T073733`, `9fceb02d`."""

AnyPanel = TypeVar("AnyPanel", stat.Panel, timeseries.Panel, heatmap.Panel, barchart.Panel, table.Panel)
Steps = tuple[tuple[float, str], ...]
"""Thresholds, each a value and the colour from there on."""


@dataclass(frozen=True)
class Query:
    """A query of a panel, and the name of its answer in the legend."""

    expr: str
    legend: str = ONLY
    interval: str | None = None
    """The scrape interval of its job, if it is not the usual one."""


@dataclass(frozen=True)
class Column:
    """The look of a table column; `steps` and `names` colour its cells."""

    unit: str | None = None
    decimals: int | None = None
    steps: Steps = ()
    names: dict[str, tuple[str, str]] | None = None
    link: str | None = None
    shortens_versions: bool = False

    def properties(self) -> Iterator[model.DynamicConfigValue]:
        """Yield the column's overrides, as Grafana calls them."""
        if self.unit:
            yield model.DynamicConfigValue(id_val="unit", value=self.unit)
        if self.decimals is not None:
            yield model.DynamicConfigValue(id_val="decimals", value=self.decimals)
        if self.steps:
            yield model.DynamicConfigValue(id_val="thresholds", value=_thresholds(self.steps).build())
        if self.names:
            yield model.DynamicConfigValue(id_val="mappings", value=[_mapping(self.names)])
        if self.shortens_versions:
            yield model.DynamicConfigValue(id_val="mappings", value=[_short_version()])
        if self.steps or self.names:
            yield model.DynamicConfigValue(
                id_val="custom.cellOptions", value={"type": "color-background", "mode": "basic"}
            )
        if self.link:
            yield model.DynamicConfigValue(id_val="links", value=[{"title": "More", "url": self.link}])


def number(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    steps: Steps = (),
    names: dict[str, tuple[str, str]] | None = None,
    decimals: int | None = None,
    no_value: str = UNKNOWN,
) -> model.Panel:
    """Return one big number for each series, as it is now. `names` maps values to (text, colour)."""
    panel = _common(stat.Panel(), title, description, unit, no_value, _targets(queries, _instant))
    panel.color_mode(BigValueColorMode.BACKGROUND_SOLID if steps or names else BigValueColorMode.NONE)
    panel.graph_mode(BigValueGraphMode.NONE)
    panel.text_mode(
        BigValueTextMode.VALUE if [query.legend for query in queries] == [ONLY] else BigValueTextMode.VALUE_AND_NAME
    )
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.thresholds(_thresholds(steps or ((0, BLUE),)))
    if names:
        panel.mappings([_mapping(names)])
    if decimals is not None:
        panel.decimals(decimals)
    _shorten_versions(panel, queries)
    return panel.build()


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    stacked: StackingMode | None = None,
    limits: Steps = (),
    negative: bool = False,
    no_value: str = NO_TRAFFIC,
) -> model.Panel:
    """Return a chart of values over time.

    `limits` draws lines above which something is wrong. The axis starts at 0 unless `negative` values are possible.
    Names have the colours of `monitoring.dashboards.colours`.
    """
    panel = _common(timeseries.Panel(), title, description, unit, no_value, _targets(queries, _range))
    if not negative:
        panel.min(0)
    panel.line_width(1).fill_opacity(60 if stacked else 8).show_points(VisibilityMode.NEVER)
    _colour(panel, [query.legend for query in queries])
    _shorten_versions(panel, queries)
    panel.legend(_legend("lastNotNull"))
    panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    if stacked:
        panel.stacking(common.StackingConfig().mode(stacked).group("A"))
    if limits:
        panel.thresholds(_thresholds(((0, GREEN), *limits)))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    return panel.build()


def heat(title: str, description: str, unit: str, query: Query) -> model.Panel:
    """Return the buckets of a histogram over time, as darker and lighter cells."""
    panel = _common(heatmap.Panel(), title, description, "short", NO_TRAFFIC, _targets((query,), _heatmap))
    panel.calculate(False)
    panel.y_axis(heatmap.YAxisConfig().unit(unit))
    panel.color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(32))
    panel.tooltip(heatmap.HeatmapTooltip().mode(TooltipDisplayMode.SINGLE).y_histogram(False))
    return panel.build()


def bars(
    title: str, description: str, unit: str, x: str, sort: str, hidden: tuple[str, ...], *queries: Query
) -> model.Panel:
    """Return instant queries side by side for each value of the label `x`, in the order of the label `sort`.

    Other labels are hidden, and must be the same in all series.
    """
    panel = _common(barchart.Panel(), title, description, unit, NO_TRAFFIC, _targets(queries, _table))
    panel.min(0).x_field(x).fill_opacity(80).group_width(0.8)
    _colour(panel, [query.legend for query in queries])
    panel.legend(_legend())
    panel.tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.NONE))
    for step in _joined(queries, (*hidden, sort), sort=sort):
        panel.with_transformation(step)
    return panel.build()


def listing(
    title: str,
    description: str,
    *queries: Query,
    columns: dict[str, Column],
    hidden: tuple[str, ...] = (),
    descending: str = "",
    no_value: str = UNKNOWN,
) -> model.Panel:
    """Return a table with a row for each set of labels, and a column for each label and query.

    `columns` gives some of them a look; labels in it are the first columns, in this order.
    """
    panel = _common(table.Panel(), title, description, "short", no_value, _targets(queries, _table))
    for step in _joined(queries, hidden, first=tuple(columns)):
        panel.with_transformation(step)
    for name, column in columns.items():
        panel.override_by_name(name, list(column.properties()))
    if descending:
        panel.sort_by([common.TableSortByFieldState().display_name(descending).desc(True)])
    return panel.build()


def _mapping(names: dict[str, tuple[str, str]]) -> model.ValueMap:
    options = {value: model.ValueMappingResult(text=text, color=color) for value, (text, color) in names.items()}
    return model.ValueMap(options=options)


def _common(
    panel: AnyPanel, title: str, description: str, unit: str, no_value: str, targets: list[prometheus.Dataquery]
) -> AnyPanel:
    panel.title(title).description(description).unit(unit).no_value(no_value).datasource(DATASOURCE)
    for target in targets:
        panel.with_target(target)
    return panel


def _targets(
    queries: tuple[Query, ...], finish: Callable[[prometheus.Dataquery], prometheus.Dataquery]
) -> list[prometheus.Dataquery]:
    targets = []
    for letter, query in zip(ascii_uppercase, queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).expr(query.expr).legend_format(query.legend)
        target.datasource(DATASOURCE)
        if query.interval:
            target.interval(query.interval)
        targets.append(finish(target))
    return targets


def _range(target: prometheus.Dataquery) -> prometheus.Dataquery:
    return target.range().format(PromQueryFormat.TIME_SERIES)


def _heatmap(target: prometheus.Dataquery) -> prometheus.Dataquery:
    return target.range().format(PromQueryFormat.HEATMAP)


def _instant(target: prometheus.Dataquery) -> prometheus.Dataquery:
    return target.instant().format(PromQueryFormat.TIME_SERIES)


def _table(target: prometheus.Dataquery) -> prometheus.Dataquery:
    return target.instant().format(PromQueryFormat.TABLE)


def _joined(
    queries: tuple[Query, ...], hidden: tuple[str, ...], first: tuple[str, ...] = (), sort: str = ""
) -> Iterator[model.DataTransformerConfig]:
    """Yield the steps that join rows with the same labels, and name each value as its query's legend does."""
    yield model.DataTransformerConfig(id_val="merge", options={})
    if sort:
        # Before the column is left out.
        yield model.DataTransformerConfig(id_val="sortBy", options={"fields": {}, "sort": [{"field": sort}]})
    names = {f"Value #{letter}": query.legend for letter, query in zip(ascii_uppercase, queries, strict=False)}
    if len(queries) == 1:
        names = {"Value": queries[0].legend}
    # Grafana sorts the columns before it renames them.
    labels = [name for name in first if name not in names.values()]
    yield model.DataTransformerConfig(
        id_val="organize",
        options={
            "excludeByName": dict.fromkeys(("Time", *hidden), True),
            "renameByName": names,
            "indexByName": {name: place for place, name in enumerate((*labels, *names))} if labels else {},
        },
    )


def _colour(panel: timeseries.Panel | barchart.Panel, legends: list[str]) -> None:
    """Give names their fixed colours, and leave the others to Grafana, which computes them from the names."""
    panel.color_scheme(build.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    for name, colour in fixed(legends).items():
        value = {"mode": model.FieldColorModeId.FIXED, "fixedColor": colour}
        panel.override_by_name(name, [model.DynamicConfigValue(id_val="color", value=value)])


def _shorten_versions(panel: stat.Panel | timeseries.Panel, queries: tuple[Query, ...]) -> None:
    if any(label in query.legend for query in queries for label in ("{{version}}", "{{shadow}}")):
        options = {"regex": f"/{LONG_VERSION}/g", "renamePattern": SHORT_VERSION}
        panel.with_transformation(model.DataTransformerConfig(id_val="renameByRegex", options=options))


def _short_version() -> model.RegexMap:
    result = model.ValueMappingResult(text=SHORT_VERSION)
    return model.RegexMap(options=model.DashboardRegexMapOptions(pattern=f"/{LONG_VERSION}/", result=result))


def _legend(*calcs: str) -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.LIST)
        .placement(LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(list(calcs))
    )


def _thresholds(steps: Steps) -> build.ThresholdsConfig:
    first, *others = steps
    return (
        build.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps(
            [model.Threshold(value=None, color=first[1])]
            + [model.Threshold(value=value, color=color) for value, color in others]
        )
    )
