import re
import shlex
from html import unescape
from pathlib import Path

import pytest
from sklearn.linear_model import LogisticRegression

from headrace import export
from headrace.exporting.exported import Exported
from headrace.models.store import ModelStore
from training.dataset import Dataset


@pytest.fixture
def exported(fitted: LogisticRegression, iris: Dataset, store: ModelStore) -> Exported:
    return export(fitted, iris.rows, iris.targets, name="iris", version="v1", store=store)


def test_it_says_where_the_version_is(exported: Exported, store: ModelStore) -> None:
    assert (exported.name, exported.version, exported.alias) == ("iris", "v1", "latest")
    assert exported.manifest == store.manifest("iris")
    assert exported.location == store.location("iris", "v1")
    assert (
        repr(exported)
        == f"Exported('iris', version='v1', alias='latest', location='{exported.location}', new_store=True)"
    )


def test_it_prints_nothing(
    fitted: LogisticRegression, iris: Dataset, store: ModelStore, capfd: pytest.CaptureFixture[str]
) -> None:
    export(fitted, iris.rows, iris.targets, name="iris", store=store, alias=None)

    assert capfd.readouterr() == ("", "")


def test_a_notebook_shows_a_card(exported: Exported) -> None:
    card = exported._repr_html_()

    assert "<strong>iris v1</strong>, now <code>latest</code>" in card
    assert f"<code>{exported.location}</code>" in card
    match = re.search(r'href="file://([^"]+)"', card)
    assert match and Path(match[1]).read_text().startswith("<!doctype html>")
    command = shlex.split(unescape(card.split("<pre>")[1].split("</pre>")[0]))
    assert command[:2] == ["curl", "http://127.0.0.1:8000/models/iris/versions/latest/predict"]
    assert command[-1].startswith('{"x0": ')


def test_names_can_not_become_markup(exported: Exported) -> None:
    card = Exported(exported.manifest, "s3://bucket/<b>", None)._repr_html_()

    assert "<b>" not in card
    assert 'href="s3://bucket/&lt;b&gt;/card.html"' in card
