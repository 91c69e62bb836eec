"""Every query of every dashboard, sent to a real Prometheus that has watched a stack on a bad day, and the pictures."""

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite
from pathlib import Path
from threading import Event
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml

from headrace import export
from headrace.models.alias import Trial
from headrace.models.store import ModelStore
from monitoring.dashboards.colours import CLOSED
from monitoring.preview.__main__ import main as preview
from monitoring.preview.dashboard import Dashboard, Variable, load_all
from monitoring.preview.prometheus import Prometheus as Client
from monitoring.preview.prometheus import Series
from monitoring.preview.queries import Period, ask, choose, offered, substitute
from monitoring.preview.tables import table_of
from monitoring.rules.drift import WINDOWS
from tests.monitoring.queries import DASHBOARDS, RULES
from tests.support.estimators import CASES, people
from tests.support.exporter import exporter, why_no_exporter
from tests.support.processes import wait_for
from tests.support.prometheus import Prometheus
from tests.support.puppet import PUPPET_FOLDER, Act, Puppet
from tests.support.requirements import require
from tests.support.stack import Stack

pytestmark = pytest.mark.monitoring

SETTINGS = {
    # All children load this model, which a trial requires.
    "DEFAULT_MODEL": "people",
    "WAITING_ROWS_MAX": "100",
    # Jobs that a dead child had claimed wait for the end of their lease.
    "TASK_SOFT_TIME_LIMIT_SECONDS": "1",
    "TASK_TIME_LIMIT_SECONDS": "2",
    "JOB_CHECK_SECONDS": "0.5",
    "JOB_MAX_ATTEMPTS": "2",
}
SHOWN_SECONDS_MIN = 60
PICTURE_BYTES_MAX = 300_000
RATE_OVER = "20s"
"""The interval that Grafana uses, which assumes scrapes every 5 s."""
EXPORTER_JOB = "celery-exporter"
EXPORTED_BY_IT = re.compile(r"\bcelery_\w+")

BOARDS = load_all(DASHBOARDS)


@dataclass(frozen=True)
class Question:
    """The query of a panel or an annotation."""

    board: Dashboard
    expr: str
    instant: bool
    names: str
    """Template of the legend."""


QUESTIONS = {
    f"{board.name} / {panel.title} / {target.ref_id}": Question(board, target.expr, target.instant, target.legend)
    for board in BOARDS
    for panel in board.panels
    for target in panel.targets
} | {
    f"{board.name} / {each.name}": Question(board, each.expr, False, each.text)
    for board in BOARDS
    for each in board.annotations
}
DID_NOT_HAPPEN = {
    "model / Failed rows by reason / A",
    "model / Missing and out of range / A",
    "model / Shadow rows dropped / A",
    "platform / Rule failures / A",
    "queue / Children started, rows lost, workers stalled / C",
}
"""Queries that show only what is not zero, of which this day has nothing."""

MAY_NOT_HAPPEN = {f"queue / Celery tasks / {event}" for event in "DEF"}
"""Queries that show only what is not zero, and count tasks that failed, were retried or rejected: chance decides."""

VARIABLES = {f"{board.name} / {each.name}": (board, each) for board in BOARDS for each in board.variables}


@dataclass(frozen=True)
class Watched:
    """A Prometheus with data, and the period in which it is queried."""

    client: Client
    period: Period
    no_exporter: str | None

    def known(self, board: Dashboard) -> dict[str, str]:
        """Return the values of a dashboard's variables."""
        return {name: choice.query for name, choice in choose(board, self.client, self.period).items()}

    def answer(self, question: Question) -> list[Series]:
        """Return the series that Grafana would get."""
        own = self.period.variables(1) | {"__rate_interval": RATE_OVER}
        expr = substitute(question.expr, {**own, **self.known(question.board)})
        assert not re.search(r"\$[a-z_{]", expr)
        if self.no_exporter and EXPORTED_BY_IT.search(expr):
            require(False, self.no_exporter)
        if question.instant:
            return self.client.instant(expr, self.period.end)
        return self.client.range(expr, self.period.start, self.period.end, 1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ModelStore:
    """Return a store with the puppet, and with two versions of a model of numbers, texts and missing values."""
    store = ModelStore(tmp_path_factory.mktemp("models"))
    rows = np.array([[-1.0, Act.ANSWER], [1.0, Act.ANSWER]] * 5)
    puppet = Puppet().fit(rows, np.array(["low", "high"] * 5))
    export(puppet, rows, store=store, name="puppet", feature_names=["value", "act"], scores={}, extra_modules=["tests"])
    case = CASES["mixed frame"]()
    for version in ("v2", "v1"):
        export(case.estimator, case.X, case.y, store=store, name="people", version=version, scores={})
    return store


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, store: ModelStore) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    no_exporter = why_no_exporter()
    with ExitStack() as running:
        options: dict[str, Any] = {**SETTINGS, PUPPET_FOLDER: str(folder)}
        stack = Stack(folder, Path(store.root), workers=2, **options)
        running.callback(stack.close)
        stack.start()
        port = urlsplit(stack.url).port
        assert port
        targets = {"gateway": [port], "worker": stack.metrics_ports}
        if no_exporter is None:
            targets[EXPORTER_JOB] = [running.enter_context(exporter(folder, stack.redis_url))]
        prometheus = running.enter_context(Prometheus(folder, targets, shipped_rules(folder), slow=[EXPORTER_JOB]))
        begin = time.time()
        prepare(stack, store, prometheus)
        # The traffic continues, so that the present moment is not idle either.
        running.enter_context(steady_traffic(stack))
        bad_day(stack, prometheus)
        end = time.time()
        # All of the day: what shows only what is not zero would miss an event that came before.
        period = Period(min(begin, end - SHOWN_SECONDS_MIN), end, 1)
        yield Watched(running.enter_context(Client(prometheus.url)), period, no_exporter)


def shipped_rules(folder: Path) -> list[Path]:
    """Write the shipped rules with an evaluation interval of one second."""
    written = []
    for path in RULES.glob("*.yml"):
        content = yaml.safe_load(path.read_text())
        for group in content["groups"]:
            group.pop("interval", None)
        written.append(folder / path.name)
        written[-1].write_text(yaml.safe_dump(content, sort_keys=False))
    return written


def prepare(stack: Stack, store: ModelStore, prometheus: Prometheus) -> None:
    """Wait until all versions answer and Prometheus has seen all counters before they rise."""
    stack.wait_for_slots(4)
    store.set_trials("people", "latest", split=Trial(version="v2", share=0.3), shadow=Trial(version="v2", share=1))
    # The series of unknown models begins with the first of them, so that only the second is seen as a step.
    unknown_model(stack)
    # Once is enough: on a busy machine now this scrape fails and now that one.
    seen = "max_over_time(up[5m])"
    wait_for("everything is scraped", lambda: prometheus.query(seen) and not prometheus.query(f"{seen} == 0"))
    wait_for("the trials", lambda: stack.http.get("/model-info").json()["trials"])
    assert puppet_answers(stack, Act.ANSWER) == 200
    wait_for("the other model", lambda: prometheus.query('inference_model_info{model="puppet"} offset 2s'))


def bad_day(stack: Stack, prometheus: Prometheus) -> None:
    """Cause every kind of event of requests and jobs, and wait until Prometheus has seen them."""
    refusals(stack)
    jobs(stack)
    # A worker that loads the model for its last row shows no step, so more than one may have to die.
    seen_by = 'increase(inference_errors_total{code="worker_lost"}[30s]) > 0'
    wait_for("a lost row", lambda: prometheus.query(seen_by) or puppet_answers(stack, Act.DIE) != 503)
    # Each window has a rule group of its own, and groups are evaluated at different moments.
    for window in WINDOWS:
        for subject in ("feature:inference_feature", "target:inference_output"):
            judged = f'{subject}:psi{window.length}{{model="people"}} offset 2s'
            wait_for(judged, partial(prometheus.query, judged))
    wait_for("an alert", lambda: prometheus.query('ALERTS{alertstate="firing"}'))
    if EXPORTER_JOB in {labels["job"] for labels, _ in prometheus.query("up")}:
        wait_for("celery's events", lambda: prometheus.query("celery_task_succeeded_total"))
    stack.assert_conserved()


@contextmanager
def steady_traffic(stack: Stack) -> Iterator[None]:
    """Send thirty people ten times a second, each time older than those in training."""
    stop = Event()

    def send() -> None:
        older = 0
        while not stop.wait(0.1):
            frame, _ = people(30, seed=older)
            frame["age"] += min(older, 40)
            rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
            # Some of them are refused under this load.
            assert stack.predict(rows).status_code in (200, 503, 504)
            older += 1

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        try:
            yield
        finally:
            stop.set()
        sending.result()


def puppet_row(act: Act, value: float = 1.0) -> dict[str, float]:
    return {"value": value, "act": act}


def puppet_answers(stack: Stack, act: Act, value: float = 1.0, rows: int = 1, **options: Any) -> int:
    instances = [puppet_row(act, value)] * rows
    return stack.http.post("/models/puppet/predict", json={"instances": instances}, **options).status_code


def unknown_model(stack: Stack) -> None:
    assert stack.http.post("/models/nobody/predict", json={}).status_code == 404


def refusals(stack: Stack) -> None:
    """Send invalid rows, rows that raise, rows too late, and more rows than may wait."""
    assert stack.predict({"age": "old"}).status_code == 422
    unknown_model(stack)
    assert puppet_answers(stack, Act.RAISE) == 422
    assert puppet_answers(stack, Act.EXHAUST_MEMORY) == 500
    assert puppet_answers(stack, Act.SLEEP, params={"deadline": 0.2}) == 504
    with ThreadPoolExecutor(12) as pool:
        assert 503 in set(pool.map(lambda _: puppet_answers(stack, Act.SLEEP, 0.02, rows=30), range(12)))


def jobs(stack: Stack) -> None:
    """Submit jobs that succeed, fail, are cancelled, and whose process dies."""

    def submit(act: Act, value: float = 1.0) -> str:
        answer = stack.http.post("/models/puppet/jobs", json=puppet_row(act, value))
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    ends = {Act.ANSWER: "succeeded", Act.RAISE: "failed", Act.DIE: "failed"}
    for act, outcome in ends.items():
        assert stack.outcome(submit(act))["status"] == outcome
    # The last jobs still wait.
    unwanted = [submit(Act.SLEEP, 0.2) for _ in range(8)]
    assert 200 in {stack.http.delete(f"/jobs/{job}").status_code for job in reversed(unwanted)}


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_is_asked_has_an_answer(watched: Watched, name: str) -> None:
    question = QUESTIONS[name]
    if name in DID_NOT_HAPPEN:
        assert not watched.answer(question)
    if name in DID_NOT_HAPPEN | MAY_NOT_HAPPEN:
        question = replace(question, expr=question.expr.replace("> 0", "> -1"))
    series = watched.answer(question)
    assert series
    assert any(isfinite(value) for each in series for value in each.values), "nothing but NaN"
    labels = {label for each in series for label in each.labels}
    named = set(re.findall(r"\{\{\s*(\w+)\s*\}\}", question.names))
    assert named <= labels
    for label in named & CLOSED.keys():
        assert {each.labels[label] for each in series} <= {*CLOSED[label]}
    assert "unknown" not in {each.labels.get("model") for each in series}


@pytest.mark.parametrize(("board", "variable"), VARIABLES.values(), ids=VARIABLES)
def test_a_variable_has_values(watched: Watched, board: Dashboard, variable: Variable) -> None:
    assert offered(variable, watched.client, watched.period, watched.known(board))


def board_named(name: str) -> Dashboard:
    [board] = [board for board in BOARDS if board.name == name]
    return board


def test_the_overview_has_one_row_for_each_model(watched: Watched) -> None:
    """One of the models has two versions that answer."""
    board = board_named("overview")
    [panel] = [panel for panel in board.panels if panel.title == "Each model"]
    table = table_of(panel, ask(panel, watched.client, watched.period, watched.known(board), 100))
    assert sorted(map(str, table.column("model"))) == ["people", "puppet"]
    assert table.columns == ["model", "version", "requests", "errors", "P95", "drift"]
    assert {row["version"] for row in table.rows if row["model"] == "people"} <= {"v1", "v2"}
    assert all(isinstance(row["requests"], float) and isinstance(row["errors"], float) for row in table.rows)


def test_the_feature_that_drifts_most_is_chosen(watched: Watched) -> None:
    assert watched.known(board_named("model"))["feature"] == "age"


def test_bins_are_named_by_what_they_hold(watched: Watched) -> None:
    board = board_named("model")
    [panel] = [panel for panel in board.panels if panel.title == "Bins of $feature"]
    known = {**watched.known(board), "version": "v1"}
    table = table_of(panel, ask(panel, watched.client, watched.period, known, 100))
    first, *_, last = map(str, table.column("range"))
    assert first.startswith("≤ ") and last.startswith("> ") and len(table.rows) == 5


@pytest.fixture(scope="module")
def pictures(watched: Watched, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    shown = f"{watched.period.end - watched.period.start:.0f}s"
    options = ["--url", watched.client.url, "--range", shown, "--scrape-seconds", "1", "--height", "0"]
    assert preview([*options, "--output", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("board", BOARDS, ids=[board.name for board in BOARDS])
def test_a_picture_shows_every_panel_and_what_it_says(watched: Watched, pictures: Path, board: Dashboard) -> None:
    picture = (pictures / f"{board.name}.svg").read_bytes()
    assert len(picture) < PICTURE_BYTES_MAX
    texts = {element.text for element in ElementTree.fromstring(picture).iter()}
    choices = choose(board, watched.client, watched.period)
    shown = {name: choice.shown for name, choice in choices.items()}
    versions = choices["version"].values if "version" in choices else [""]
    for version in versions:
        assert {substitute(panel.title, {**shown, "version": version}) for panel in board.panels} <= texts
    # The text for a panel without data; the tests above show that every panel has data.
    if watched.no_exporter is None:
        quiet = {name.rsplit(" / ", 1)[0] for name in DID_NOT_HAPPEN}
        loud = [panel for panel in board.panels if f"{board.name} / {panel.title}" not in quiet]
        assert not texts & {panel.defaults.get("noValue", "No data") for panel in loud}
