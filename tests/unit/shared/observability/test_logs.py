import asyncio
import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
import redis
from pydantic import BaseModel, ValidationError

from shared.observability.log_context import bind, bound, detached, log_context
from shared.observability.logs import (
    FIELD_ITEMS_MAX,
    FORMATTERS,
    PRIVATE,
    TEXT_MAX_CHARACTERS,
    ConsoleFormatter,
    JsonFormatter,
    logging_configuration,
)
from shared.observability.logs import masked as mask
from tests.support.coroutines import run

URL = "rediss://user:sesame@redis.example:6379/0"


class Log:
    """A logger that writes one of the formats into memory."""

    def __init__(self, log_format: str) -> None:
        self._stream = io.StringIO()
        handler = logging.StreamHandler(self._stream)
        handler.setFormatter(FORMATTERS[log_format]("worker"))
        self.logger = logging.Logger("worker.execution.batch_runner")
        self.logger.addHandler(handler)

    @property
    def text(self) -> str:
        """The written lines."""
        return self._stream.getvalue()

    @property
    def line(self) -> Any:
        """The only line, decoded."""
        (line,) = self.text.splitlines()
        return json.loads(line)


@pytest.fixture
def console() -> Log:
    return Log("console")


@pytest.fixture
def as_json() -> Log:
    return Log("json")


@pytest.fixture(params=sorted(FORMATTERS))
def log(request: pytest.FixtureRequest) -> Log:
    return Log(request.param)


@pytest.fixture(autouse=True)
def nothing_bound() -> Iterator[None]:
    with bound():
        yield


# --- the two formats


def test_a_line_for_machines_is_an_object(as_json: Log) -> None:
    before = datetime.now(timezone.utc)
    as_json.logger.warning("%d jobs", 3)

    line = as_json.line
    at = datetime.fromisoformat(line.pop("time").replace("Z", "+00:00"))
    assert abs((at - before).total_seconds()) < 5
    assert isinstance(line.pop("pid"), int)
    assert line == {
        "level": "warning",
        "logger": "worker.execution.batch_runner",
        "process": "worker",
        "message": "3 jobs",
    }


def test_a_line_for_people_begins_with_its_time_and_ends_with_its_fields(console: Log) -> None:
    bind(request_id=b"abc", job_ids=["a", "b"])
    console.logger.warning("%d jobs", 3)

    assert console.text.endswith(" worker.execution.batch_runner: 3 jobs [request_id=abc job_ids=a,b]\n")
    assert " WARNING worker[" in console.text
    datetime.strptime(console.text[:23], "%Y-%m-%d %H:%M:%S.%f")


def test_bound_fields_are_in_every_line(as_json: Log) -> None:
    bind(request_id=b"abc")
    with bound(model="iris", job_ids=["a", "b"], trace_id="0" * 32):
        as_json.logger.warning("x")

    line = as_json.line
    assert (line["request_id"], line["model"], line["job_ids"]) == ("abc", "iris", ["a", "b"])
    assert line["trace_id"] == "0" * 32


def test_a_long_list_of_ids_is_cut(as_json: Log) -> None:
    with bound(job_ids=[f"job{at}" for at in range(FIELD_ITEMS_MAX + 5)]):
        as_json.logger.warning("x")

    assert as_json.line["job_ids"][-2:] == [f"job{FIELD_ITEMS_MAX - 1}", "and 5 more"]


def test_an_exception_is_one_field(as_json: Log) -> None:
    try:
        raise RuntimeError("broken") from KeyError("cause")
    except RuntimeError:
        as_json.logger.exception("failed")

    text = as_json.line["exception"]
    assert text.startswith("KeyError: 'cause'")
    assert text.endswith("RuntimeError: broken")
    assert "test_logs.py" in text


def test_an_exception_is_indented_for_people(console: Log) -> None:
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        console.logger.exception("failed")

    first, *more = console.text.splitlines()
    assert first.endswith("worker.execution.batch_runner: failed")
    assert more[-1] == "    RuntimeError: broken"
    assert all(line.startswith("    ") for line in more)


def test_exception_information_without_an_exception_is_nothing(log: Log) -> None:
    log.logger.error("x", exc_info=True)

    assert "None" not in log.text


# --- secrets and inputs


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"at {URL}, again", "at rediss://user:**@redis.example:6379/0, again"),
        ("redis://:p@ss@host/0", "redis://:**@host/0"),
        ("redis://:a@one/0,redis://:b@two/0", "redis://:**@one/0,redis://:**@two/0"),
        ("s3://KEY:SECRET@bucket/x", "s3://KEY:**@bucket/x"),
        ("http://h/?password=sesame&x=1", "http://h/?password=**&x=1"),
        ("http://h/?x=1&X-Amz-Signature=sesame", "http://h/?x=1&X-Amz-Signature=**"),
        ("http://127.0.0.1:9101/metrics", "http://127.0.0.1:9101/metrics"),
        ("Transport://:**@127.0.0.1:1/0", "Transport://:**@127.0.0.1:1/0"),
        ("user@host 12:30", "user@host 12:30"),
    ],
)
def test_passwords_in_urls_are_masked(text: str, shown: str) -> None:
    assert mask(text) == shown


def _broken_by(values: dict[str, Any]) -> ValidationError:
    class Rows(BaseModel):
        rows: list[float]

    with pytest.raises(ValidationError) as caught:
        Rows.model_validate(values)
    return caught.value


def _raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    "error",
    [
        redis.ConnectionError(f"Error 111 connecting to {URL}"),
        OSError(5, "can't open", URL),
        _broken_by({"rows": ["sesame"]}),
        _broken_by({"rows": "sesame, input_type=\nsesame"}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_neither_secrets_nor_inputs_are_in_messages_and_exceptions(log: Log, error: Exception) -> None:
    log.logger.error("broken: %s", error)
    log.logger.error("broken: %r", error, exc_info=_raised(error))
    with bound(job_ids=[URL], model=URL):
        log.logger.error("x")

    assert "broken" in log.text
    assert "sesame" not in log.text


def test_a_private_exception_is_logged_by_its_type_and_place(log: Log) -> None:
    def convert(value: str) -> float:
        return float(value)

    try:
        try:
            convert("sesame")
        except ValueError as error:
            raise TypeError("of sesame") from error
    except TypeError:
        log.logger.warning("row failed", exc_info=True, extra=PRIVATE)

    for expected in ("ValueError", "TypeError", "in convert", "test_logs.py"):
        assert expected in log.text
    # The traceback quotes lines of code, not values.
    assert "of sesame\n" not in log.text
    assert "'sesame'" not in log.text


@pytest.mark.parametrize("part", ["x", "input_value=", ", input_type=", "://a:", "?key=", "\n", "\x00"])
def test_lines_are_bounded_however_long_their_texts_are(log: Log, part: str) -> None:
    text = part * (500_000 // len(part))
    with bound(model=text, job_ids=[text]):
        log.logger.error("first: %s last", text)
        log.logger.error("failed", exc_info=_raised(RuntimeError(text)))

    assert len(log.text.encode()) < 100_000
    assert "first: " in log.text
    assert " last" in log.text
    assert "RuntimeError:" in log.text


def test_a_text_is_cut_in_its_middle_after_its_secrets_were_masked(as_json: Log) -> None:
    half = TEXT_MAX_CHARACTERS // 2
    as_json.logger.error("%s input_value=%s, input_type=str %s", "x" * half, "sesame" * half, "y" * half)

    text = as_json.line["message"]
    assert text == f"{'x' * half} [{len(' input_value=**, input_type=str '):,} characters] {'y' * half}"


@pytest.mark.parametrize("id_", ["a\nb", "a\r\nb", "\x1b[31mab", "a\x00b", "a\u2028b", "a\u202e\u200bb", b"a\nb"])
def test_control_characters_of_ids_are_stripped(id_: str | bytes) -> None:
    for log_format in FORMATTERS:
        log = Log(log_format)
        with bound(request_id=id_):
            log.logger.warning("x")
        assert len(log.text.splitlines()) == 1
        assert not any(ord(character) < 32 or character == "\u2028" for character in log.text[:-1])


def test_a_message_can_not_forge_a_line_for_people(console: Log) -> None:
    console.logger.warning("unknown model %s", "x\n2026-01-01 00:00:00.000 ERROR   gateway[1] made up")

    _, second = console.text.splitlines()
    assert second.startswith("    2026")


@pytest.mark.parametrize("text", ["\ud800", "Straße ✓", "\udcff"])
def test_any_text_can_be_written(as_json: Log, text: str) -> None:
    as_json.logger.warning("%s", text)

    assert as_json.line["message"] in (text, text.encode("utf-8", "backslashreplace").decode())
    as_json.text.encode()


# --- the context


def test_a_task_has_the_fields_of_its_request_and_a_detached_one_has_not() -> None:
    async def bound_id() -> Any:
        return log_context().get("request_id")

    async def request(id_: str) -> list[Any]:
        bind(request_id=id_)
        return [await bound_id(), await asyncio.create_task(bound_id()), await detached(bound_id())]

    async def two() -> Any:
        return await asyncio.gather(request("a"), request("b"), bound_id())

    assert run(two()) == [["a", "a", None], ["b", "b", None], None]


def test_the_fields_from_before_are_back_after_an_error() -> None:
    with bound(model="iris"):
        with pytest.raises(ZeroDivisionError), bound(model="wine", x="y"):
            raise ZeroDivisionError
        assert log_context() == {"model": "iris"}


# --- the configuration


@pytest.mark.parametrize(("log_format", "formatter"), [("console", ConsoleFormatter), ("json", JsonFormatter)])
def test_the_configuration_has_the_formatter(log_format: str, formatter: Callable[..., Any]) -> None:
    configuration = logging_configuration("gateway", "INFO", log_format)

    assert configuration["formatters"]["line"] == {"()": formatter, "process": "gateway"}
    assert configuration["root"] == {"level": "INFO", "handlers": ["stderr"]}
    assert "ext://sys.stdout" not in str(configuration), sys.stderr


@pytest.mark.parametrize(("level", "of_the_pool"), [("DEBUG", "INFO"), ("INFO", "INFO"), ("ERROR", "ERROR")])
def test_arguments_of_tasks_are_not_shown_at_any_level(level: str, of_the_pool: str) -> None:
    assert logging_configuration("worker", level)["loggers"]["celery.pool"] == {"level": of_the_pool}


def test_warnings_of_an_estimator_do_not_flood_the_log() -> None:
    configuration = logging_configuration("worker", "INFO")
    [name] = configuration["loggers"]["py.warnings"]["filters"]
    now = 0.0
    log = Log("console")
    log.logger.addFilter(configuration["filters"][name]["()"](lambda: now))
    for _ in range(1_000):
        log.logger.warning("%s", "a.py:1: UserWarning: unknown categories\n  warn()\n")
    lines = log.text.count("UserWarning")
    now = 60.0
    log.logger.warning("%s", "a.py:1: UserWarning: the next\n")

    assert lines == 10
    assert log.text.rstrip().endswith("the next, and 990 more before")
