"""Requests that are made again, and those that are not."""

import random
import socket
import threading
import uuid
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from headrace import AsyncClient, Client, HeadraceError
from headrace.client import errors
from headrace.client.calls import Call, Pause
from headrace.client.conversation import Conversation
from tests.support.coroutines import run
from tests.unit.headrace.client.test_client import problem, view
from tests.unit.headrace.client.test_hostile_answers import OK, ROW, client_of, server

Outcome = dict[str, Any] | HeadraceError | Callable[[], HeadraceError]
PREDICTED = {"prediction": 1}


class Play:
    """A conversation with outcomes given beforehand, and a clock that the pauses move."""

    def __init__(self, *outcomes: Outcome, retries: int = 2, timeout: float = 30.0) -> None:
        self.now = 1000.0
        self.calls: list[Call] = []
        self.pauses: list[float] = []
        self.conversation = Conversation("http://gateway", timeout, retries, lambda: self.now)
        self._outcomes = list(outcomes)

    def __call__(self, steps: Any) -> Any:
        try:
            step = next(steps)
            while True:
                if isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                    self.now += step.seconds
                    step = steps.send({})
                    continue
                self.calls.append(step)
                self.now += 0.25
                outcome = self._outcomes.pop(0)
                step = steps.throw(outcome) if isinstance(outcome, HeadraceError) else steps.send(outcome)
        except StopIteration as end:
            return end.value

    def predict(self, deadline: float | None = None) -> Any:
        return self(self.conversation.predict(ROW, None, None, deadline))


def busy(seconds: float | None = None) -> HeadraceError:
    return errors.Unavailable(503, "overloaded", "later", seconds)


def limited(seconds: float | None = None) -> HeadraceError:
    return errors.RateLimited(429, "rate_limited", "later", seconds)


def unreachable() -> HeadraceError:
    return errors.GatewayUnreachable("refused", sent=False)


def lost() -> HeadraceError:
    return errors.GatewayUnreachable("reset", lost=True)


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """Return the bounds of the random pauses; each draw is the upper one."""
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    monkeypatch.setattr(random, "uniform", uniform)
    return drawn


@pytest.mark.parametrize("error", [busy, limited, unreachable, lost])
def test_a_try_that_failed_for_now_is_made_again_after_a_random_pause(
    error: Callable[[], HeadraceError], draws: list[tuple[float, float]]
) -> None:
    play = Play(error(), error(), PREDICTED)

    assert play.predict() == PREDICTED
    assert draws == [(0, 0.25), (0, 0.5)]
    assert play.pauses == [0.25, 0.5]
    assert [call.seconds for call in play.calls] == [30.0, 29.5, 28.75], "all tries have the time of one"


def test_the_pause_is_that_of_the_gateway() -> None:
    play = Play(busy(3.0), limited(7.0), PREDICTED)

    assert play.predict() == PREDICTED
    assert play.pauses == [3.0, 7.0]


def test_the_random_pause_has_a_limit(draws: list[tuple[float, float]]) -> None:
    play = Play(*[busy(0.0) for _ in range(9)], PREDICTED, retries=9, timeout=1000.0)

    assert play.predict() == PREDICTED
    assert draws[-1] == (0, 8.0)


def test_the_last_error_is_raised() -> None:
    play = Play(busy(1.0), busy(1.0), limited(1.0))

    with pytest.raises(errors.RateLimited):
        play.predict()
    assert len(play.calls) == 3


@pytest.mark.parametrize(("timeout", "deadline", "pause"), [(5.0, None, 4.75), (30.0, 2.0, 1.75)])
def test_a_pause_beyond_the_time_is_not_made(timeout: float, deadline: float | None, pause: float) -> None:
    play = Play(busy(pause), PREDICTED, timeout=timeout)

    with pytest.raises(errors.Unavailable):
        play.predict(deadline)
    assert (play.pauses, len(play.calls)) == ([], 1)


def test_the_deadline_counts_from_the_first_try() -> None:
    play = Play(busy(1.0), PREDICTED)

    play.predict(2.0)

    assert [call.query for call in play.calls] == [{"deadline": "2.0"}, {"deadline": "0.75"}]


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidRequest(422, "invalid_rows", "wrong", 1.0),
        errors.NotFound(404, "unknown_model", "unknown", 1.0),
        errors.DeadlineExceeded(504, "deadline_exceeded", "late", 1.0),
        errors.ProblemError(500, "prediction_failed", "broken", 1.0),
        errors.ProblemError(502, "", "a proxy", 1.0),
        errors.UnusableAnswer(200, "strange"),
        errors.GatewayUnreachable("no whole answer within 30 s"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_are_raised_at_once(error: HeadraceError) -> None:
    play = Play(error)

    with pytest.raises(type(error)):
        play.predict()


def test_a_client_may_make_one_try_only() -> None:
    with pytest.raises(errors.Unavailable):
        Play(busy(1.0), retries=0).predict()


def test_a_job_that_is_submitted_again_has_one_key() -> None:
    play = Play(lost(), {"id": "j1"}, {"id": "j2"}, {"id": "j3"})

    for key in (None, None, "mine"):
        play(play.conversation.submit(ROW, None, None, idempotency_key=key))

    first, again, second, own = [call.headers[b"Idempotency-Key"] for call in play.calls]
    assert first == again != second
    assert uuid.UUID(first.decode()).version == 4
    assert own == b"mine"


def test_a_job_that_is_submitted_once_has_no_key() -> None:
    play = Play({"id": "j1"}, retries=0)

    play(play.conversation.submit(ROW, None, None))

    assert play.calls[0].headers == {}


def test_a_deletion_that_may_have_been_done_is_not_repeated() -> None:
    """Check that a job which the first request cancelled is not forgotten by the second."""
    with pytest.raises(errors.GatewayUnreachable):
        play = Play(lost())
        play(play.conversation.delete("j1"))

    play = Play(unreachable(), busy(1.0), {})
    play(play.conversation.delete("j1"))
    assert len(play.calls) == 3


def test_both_clients_pause_between_their_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    def transport() -> httpx.MockTransport:
        answers = [problem(503, "overloaded", {"Retry-After": "7"}), httpx.Response(200, json=PREDICTED)]
        return httpx.MockTransport(lambda _: answers.pop(0))

    async def predicted() -> dict[str, Any]:
        async with AsyncClient("http://gateway", transport=transport()) as client:
            monkeypatch.setattr("headrace.client.async_client.asyncio.sleep", pause)
            return await client.predict(ROW)

    monkeypatch.setattr("headrace.client.client.time.sleep", pauses.append)
    assert Client("http://gateway", transport=transport()).predict(ROW) == PREDICTED
    assert run(predicted()) == PREDICTED
    assert pauses == [7.0, 7.0]


def test_the_status_of_a_job_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [problem(503, "broker_unavailable", {"Retry-After": "1"}), view("running")]
    monkeypatch.setattr("headrace.client.client.time.sleep", lambda _: None)

    client = Client("http://gateway", transport=httpx.MockTransport(lambda _: answers.pop(0)))

    assert client.job("j1").status() == "running"


def answering(count: int) -> Callable[[socket.socket, threading.Event], None]:
    """Return a server that ends so many connections without an answer, and then answers."""
    left = [count]

    def handle(connection: socket.socket, _: threading.Event) -> None:
        while (piece := connection.recv(65_536)) and not piece.endswith(b"}"):
            pass
        if left[0]:
            left[0] -= 1
            return
        connection.sendall(OK + b'Content-Length: 16\r\n\r\n{"prediction":1}')

    return handle


def test_a_connection_that_ends_without_an_answer_is_made_again() -> None:
    with server(answering(2)) as url, client_of(url, timeout=60) as client:
        assert client.predict(ROW) == PREDICTED


def test_an_answer_that_breaks_off_is_not_asked_for_again() -> None:
    asked: list[bytes] = []

    def break_off(connection: socket.socket, _: threading.Event) -> None:
        if piece := connection.recv(65_536):
            asked.append(piece)
        connection.sendall(OK + b"Content-Length: 9\r\n\r\n{}")

    with (
        server(break_off) as url,
        client_of(url, timeout=60) as client,
        pytest.raises(errors.GatewayUnreachable) as caught,
    ):
        client.predict(ROW)

    assert (caught.value.sent, caught.value.lost, len(asked)) == (True, False, 1)


def test_a_gateway_that_is_not_there_has_not_got_the_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with (
        client_of(f"http://127.0.0.1:{port}", timeout=60, retries=1) as client,
        pytest.raises(errors.GatewayUnreachable) as caught,
    ):
        client.predict(ROW)

    assert (caught.value.sent, caught.value.lost) == (False, False)
