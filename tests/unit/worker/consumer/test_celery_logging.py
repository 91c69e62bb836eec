import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from billiard import util
from celery import Celery, signals
from celery.apps import worker as celery_worker

from shared.observability.logs import JsonFormatter
from shared.queue.celery_app import make_celery
from shared.settings import CommonSettings
from worker.consumer import celery_logging as logs


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """A Celery application that leaves logging as it is; undone afterwards."""
    monkeypatch.setattr(celery_worker, "safe_say", celery_worker.safe_say)
    of_celery = logging.getLogger("celery.app.trace")
    filters = [*of_celery.filters]
    logs.keep_logging_as_it_is()
    yield make_celery(CommonSettings())
    of_celery.filters = filters
    signals.setup_logging.disconnect(logs._propagate_pool_lines)


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """The lines of all loggers, Celery's too, as JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter("worker"))
    root = logging.getLogger()
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)


def test_a_failed_task_is_logged_without_the_values_it_may_quote(app: Celery, written: io.StringIO) -> None:
    @app.task(name="broken", shared=False)  # type: ignore[untyped-decorator]
    def broken(value: str) -> float:
        return float(value)

    broken.apply(args=["sesame"])

    line: dict[str, Any] = json.loads(written.getvalue())
    assert (line["logger"], line["level"]) == ("celery.app.trace", "error")
    assert "broken" in line["message"] and "ValueError" in line["message"]
    assert "in broken" in line["exception"] and line["exception"].endswith("ValueError")
    assert "sesame" not in written.getvalue()


def test_celery_adds_no_handler_of_its_own(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(app.log), "_setup", False)
    monkeypatch.setattr(util, "_logger", None)
    names = (None, "celery", "celery.task", "multiprocessing")
    before = {name: [*logging.getLogger(name).handlers] for name in names}

    app.log.setup_logging_subsystem(loglevel="INFO")

    assert {name: logging.getLogger(name).handlers for name in names} == before
    assert logging.getLogger("multiprocessing").propagate


def test_lines_that_celery_writes_past_the_log_are_in_it(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "worker.consumer.celery_logging"):
        celery_worker.safe_say("worker: Warm shutdown (MainProcess)", None)

    assert caplog.messages == ["worker: Warm shutdown (MainProcess)"]
