"""The committed JSON is what the source makes."""

import importlib
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.support.requirements import require


@pytest.fixture
def command() -> Any:
    require(sys.version_info >= (3, 11), "grafana-foundation-sdk needs Python 3.11 or newer")
    with warnings.catch_warnings():
        # The SDK recommends the format of Grafana 13, which 12.4 does not read from files.
        warnings.filterwarnings("ignore", "Prefer using dashboardv2", DeprecationWarning)
        return importlib.import_module("monitoring.dashboards.__main__")


def test_making_them_anew_changes_nothing(command: Any) -> None:
    assert command.outdated() == [], "run: python -m monitoring.dashboards"


def test_the_folders_hold_nothing_else(command: Any) -> None:
    assert {*command.FOLDER.iterdir(), *command.CHART_FOLDER.iterdir()} == set(command.render_all())


def test_check_finds_a_difference(
    command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    monkeypatch.setattr(command, "CHART_FOLDER", tmp_path)
    assert command.main(["--check"]) == 1
    assert "overview.json" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert command.main([]) == 0
    assert command.main(["--check"]) == 0
    (tmp_path / "overview.json").write_text("{}")
    assert command.main(["--check"]) == 1


def test_it_reads_back_as_the_same_dashboard(command: Any) -> None:
    from grafana_foundation_sdk.models.dashboard import Dashboard

    def without_placement(content: dict[str, Any]) -> dict[str, Any]:
        # The SDK adds one to every link that it reads.
        content.pop("placement", None)
        return content

    for text in command.render().values():
        again = command.JSONEncoder().encode(Dashboard.from_json(json.loads(text)))
        assert json.loads(again, object_hook=without_placement) == json.loads(text, object_hook=without_placement)
