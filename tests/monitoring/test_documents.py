"""Every metric in a document exists, and every metric is documented and used."""

import re
from pathlib import Path

import pytest

from tests.monitoring.queries import RULES, dashboard_metric_names, rule_metric_names
from tests.support.catalogue import Exported, gateway_metrics, worker_metrics
from tests.support.processes import REPOSITORY

DOCUMENTS = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
NAME = re.compile(r"(?<![\w:.])(?:inference|process)_[a-z0-9_]+(?![\w:…*])")


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> list[Exported]:
    folders = tmp_path_factory.mktemp("gateway"), tmp_path_factory.mktemp("worker")
    return [*gateway_metrics(folders[0]), *worker_metrics(folders[1])]


def series_of(metrics: list[Exported]) -> dict[str, str]:
    """Return every name that a document may use, and the metric that it belongs to."""
    names = {metric.name: metric.name for metric in metrics}
    for metric in metrics:
        if metric.type == "histogram":
            names |= {f"{metric.name}_{part}": metric.name for part in ("bucket", "sum", "count")}
    return names


def prose(document: Path) -> str:
    """Return a document without the table of all metrics."""
    return re.sub(r"<!-- metrics:.*?<!-- /metrics -->", "", document.read_text("utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_metrics_that_are_named_exist(document: Path, catalogue: list[Exported]) -> None:
    named = set(NAME.findall(document.read_text("utf-8")))
    assert named - series_of(catalogue).keys() == set()


def test_every_metric_is_of_use(catalogue: list[Exported]) -> None:
    series = series_of(catalogue)
    used = dashboard_metric_names() | rule_metric_names()
    used |= {name for document in DOCUMENTS for name in NAME.findall(prose(document))}
    assert set(series.values()) - {series[name] for name in used if name in series} == set()


def test_dashboards_and_rules_read_what_exists(catalogue: list[Exported]) -> None:
    recorded = set(re.findall(r"record: (\S+)", "".join(path.read_text("utf-8") for path in RULES.glob("*.yml"))))
    read = {name for name in dashboard_metric_names() | rule_metric_names() if NAME.fullmatch(name)}
    assert read
    assert read - series_of(catalogue).keys() - recorded == set()
