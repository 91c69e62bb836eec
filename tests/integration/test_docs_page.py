"""The page `/docs` in a browser: open it, choose a model, try an operation, read the answer."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace import export
from headrace.models.store import ModelStore
from tests.support.api_keys import new_key
from tests.support.browser import Browser
from tests.support.estimators import CASES
from tests.support.processes import wait_for
from tests.support.stack import Stack

PREFIX = "/ml"
ANSWER = ".live-responses-table .response"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model store that holds two models."""
    folder = tmp_path_factory.mktemp("docs")
    for name, case in (("flowers", "logistic regression"), ("people", "mixed frame")):
        made = CASES[case]()
        export(made.estimator, made.X, made.y, name=name, store=ModelStore(folder / "models"))
    return folder


@pytest.fixture(scope="module")
def key(folder: Path) -> str:
    """A key that may predict and read."""
    return new_key(folder / "keys", "reader", "--scope", "predict", "--scope", "read")["Authorization"].split()[-1]


@pytest.fixture(scope="module", params=["open", "with keys", "behind a prefix"])
def docs_stack(folder: Path, key: str, request: pytest.FixtureRequest) -> Iterator[Stack]:
    keys = {"API_KEYS_FILE": str(folder / "keys"), "DOCS_ENABLED": "true"} if "keys" in request.param else {}
    prefix = {"ROOT_PATH": PREFIX} if "prefix" in request.param else {}
    part = folder / request.param.replace(" ", "-")
    part.mkdir()
    options = {"DEFAULT_MODEL": "flowers", "PREDICT_DEADLINE_SECONDS": "30", **keys, **prefix}
    stack = Stack(part, folder / "models", **options)  # type: ignore[arg-type]
    if prefix:
        # All that tests ask goes under it, as through a proxy that leaves it in the path.
        stack.url += PREFIX
    if keys:
        stack.http.headers["Authorization"] = f"Bearer {key}"
    try:
        yield stack.start()
    finally:
        stack.close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    browser = Browser(tmp_path)
    try:
        yield browser.start()
    finally:
        browser.close()


def answered(browser: Browser, operation: str) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """The status, the row and the answer that the page shows when an operation is tried out."""
    browser.click(f"{operation} .opblock-summary-control")
    browser.click(f"{operation} .try-out__btn")
    row = wait_for("a row", lambda: browser.ask(f"document.querySelector('{operation} textarea')?.value"))
    browser.click(f"{operation} .execute")
    status = browser.text(f"{operation} {ANSWER} .response-col_status")
    browser.ask(f"document.querySelector('{operation} .responses-wrapper').scrollIntoView()")
    return status, json.loads(row), json.loads(browser.text(f"{operation} {ANSWER} .highlight-code code"))


def without_times(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "timing"}


def test_the_page_opens_and_answers(docs_stack: Stack, browser: Browser, key: str, tmp_path: Path) -> None:
    browser.open(f"{docs_stack.url}/")
    wait_for("the operations", lambda: browser.ask("document.querySelectorAll('.opblock').length") == 46)
    browser.screenshot(tmp_path / "page.png")
    assert browser.ask("location.href") == f"{docs_stack.url}/docs"
    assert browser.text(".opblock-tag-section h3").startswith("predictions")
    if "Authorization" in docs_stack.http.headers:
        assert browser.ask("document.getElementById('chooser').hidden")
        browser.click(".btn.authorize")
        browser.type(".auth-container input", key)
        browser.click(".auth-container button.authorize")
        browser.click(".auth-container button.btn-done")

    status, row, answer = answered(browser, "#operations-predictions-predict")
    browser.screenshot(tmp_path / "default.png")
    assert status == "200"
    assert without_times(answer) == without_times(docs_stack.predict(row).json())

    browser.choose("#model", "people")
    operation = "#operations-predictions-predict_with_model"
    wait_for("people", lambda: "/models/people/predict" in browser.text(f"{operation} .opblock-summary-path"))
    status, row, answer = answered(browser, operation)
    browser.screenshot(tmp_path / "people.png")
    direct = docs_stack.http.post("/models/people/predict", json=row).json()
    assert status == "200"
    assert without_times(answer) == without_times(direct)

    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith(f"{docs_stack.url}/")] == []
    assert len(browser.requests) >= 8


def test_a_model_can_be_linked_to(docs_stack: Stack, browser: Browser, key: str) -> None:
    browser.open(f"{docs_stack.url}/docs?model=people")
    if "Authorization" in docs_stack.http.headers:
        browser.click(".btn.authorize")
        browser.type(".auth-container input", key)
        browser.click(".auth-container button.authorize")
    operation = "#operations-predictions-predict_with_model"
    wait_for("people", lambda: "/models/people/predict" in browser.text(f"{operation} .opblock-summary-path"))
    assert browser.ask("document.getElementById('model').value") == "people"
    assert browser.complaints == []


def test_the_page_may_reach_no_other_server(docs_stack: Stack, browser: Browser) -> None:
    browser.open(f"{docs_stack.url}/docs")
    browser.text(".opblock-tag-section h3")
    assert browser.complaints == []
    outside = f"fetch('http://127.0.0.1:{docs_stack.broker_port}/').then(() => 'sent', () => 'refused')"

    assert browser.ask(outside) == "refused"
    assert any("Content Security Policy" in complaint for complaint in browser.complaints), browser.complaints
