import asyncio
import json
import logging
import re
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from gateway.fairness.answers import PIECE_BYTES, AnswerBudget
from gateway.metrics import GatewayMetrics
from gateway.web.error_log import LINES_PER_SECOND
from gateway.web.exchange import Exchanges
from gateway.web.middleware import RequestMiddleware
from tests.support.coroutines import run, turns

LARGE = b"x" * (3 * PIECE_BYTES + 1)


async def fine(_: Request) -> Response:
    return JSONResponse({})


async def large(_: Request) -> Response:
    return Response(LARGE)


async def broken(_: Request) -> Response:
    raise RuntimeError("sesame")


async def left(_: Request) -> Response:
    raise ClientDisconnect


async def slow(_: Request) -> Response:
    await asyncio.sleep(1000)
    raise AssertionError("it was to be cancelled")


class BreaksOff:
    """An app that sends a part of its response, then fails."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"[", "more_body": True})
        raise RuntimeError("sesame")


class Hot:
    """An app that has its own template, as the hot routes do."""

    template = "/models/{name}/fine"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await JSONResponse({})(scope, receive, send)


class Site:
    """An app behind the middleware, with metrics of its own."""

    def __init__(self) -> None:
        self.metrics = GatewayMetrics()
        router = APIRouter()

        @router.get("/jobs/{job_id}")
        async def job(job_id: str) -> dict[str, str]:
            return {"id": job_id}

        self.answers = AnswerBudget(2 * len(LARGE), self.metrics.rejected)
        app = FastAPI(middleware=[Middleware(RequestMiddleware, Exchanges(self.metrics, answers=self.answers))])
        app.router.routes += [
            Route("/fine", fine, methods=["GET", "POST"]),
            Route("/large", large),
            Route("/broken", broken),
            Route("/left", left),
            Route("/slow", slow),
            Route("/half", BreaksOff()),
            Route("/models/{name}/fine", Hot(), methods=["POST"]),
            Route("/made-up/{name}", fine),
        ]
        app.include_router(router)
        self.app = app

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def asking() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                return await client.request(method, path, **options)

        return run(asking())

    def requests(self) -> dict[tuple[str, str, str], float]:
        """Number of requests by method, route and status."""
        [family] = self.metrics.http_requests.collect()
        return {
            (sample.labels["method"], sample.labels["route"], sample.labels["status"]): sample.value
            for sample in family.samples
            if sample.name.endswith("_total")
        }


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.mark.parametrize("mine", ["a", "A-b_c.9", "0" * 64])
def test_a_request_keeps_the_id_that_it_came_with(site: Site, mine: str) -> None:
    assert site.ask("GET", "/fine", headers={"X-Request-ID": mine}).headers["x-request-id"] == mine


@pytest.mark.parametrize("mine", [None, "", "0" * 65, "a b", "a\tb", "<script>", "a;b", "é", "a\x7f", "a/b"])
def test_an_id_that_could_hurt_a_log_is_replaced(site: Site, mine: str | None) -> None:
    headers = {} if mine is None else {"X-Request-ID": mine.encode("latin-1")}

    given = site.ask("GET", "/fine", headers=headers).headers.get_list("x-request-id")

    assert len(given) == 1
    assert re.fullmatch(r"[0-9a-f]{32}", given[0])


def test_every_request_without_an_id_gets_another_one(site: Site) -> None:
    assert len({site.ask("GET", "/fine").headers["x-request-id"] for _ in range(5)}) == 5


@pytest.mark.parametrize("path", ["/fine", "/broken", "/nothing", "/jobs/x"])
def test_every_answer_has_an_id(site: Site, path: str) -> None:
    assert site.ask("GET", path, headers={"X-Request-ID": "mine"}).headers["x-request-id"] == "mine"


def test_what_nobody_caught_is_a_problem_that_leads_to_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    response = site.ask("GET", "/broken", headers={"X-Request-ID": "mine"})

    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "type": "urn:headrace:problem:internal_error",
        "title": "Internal Server Error",
        "status": 500,
        "detail": "see the log for request mine",
    }
    assert "request mine failed" in caplog.text
    assert "RuntimeError: sesame" in caplog.text
    assert site.requests() == {("GET", "/broken", "500"): 1}


def test_a_flood_of_failures_does_not_flood_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5 * LINES_PER_SECOND):
        site.ask("GET", "/broken")

    # The second may end in between.
    assert caplog.text.count("RuntimeError: sesame") < 3 * LINES_PER_SECOND


def test_a_large_answer_leaves_in_pieces_and_counts_until_the_last(site: Site) -> None:
    sent: list[Message] = []
    held: list[int] = []

    async def send(message: Message) -> None:
        sent.append(message)
        held.append(site.answers.held_bytes)

    run(site.app(_scope("/large"), _nothing, send))

    start, *pieces = sent
    assert dict(start["headers"])[b"content-length"] == b"%d" % len(LARGE)
    assert b"".join(piece["body"] for piece in pieces) == LARGE
    assert [len(piece["body"]) for piece in pieces] == [PIECE_BYTES] * 3 + [1]
    assert [piece["more_body"] for piece in pieces] == [True] * 3 + [False]
    assert set(held) == {len(LARGE)}
    assert site.answers.held_bytes == 0


def test_between_two_pieces_a_lost_connection_is_noticed(site: Site) -> None:
    turns_taken: list[int] = []
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)
        asyncio.get_running_loop().call_soon(turns_taken.append, len(sent))
        # The head leaves with the first piece.
        assert len(turns_taken) >= len(sent) - 2

    run(site.app(_scope("/large"), _nothing, send))

    assert len(sent) == 5


def test_one_large_answer_too_many_is_503(site: Site) -> None:
    async def scenario() -> list[Message]:
        may_go_on = asyncio.Event()
        sent: list[Message] = []

        async def stuck(message: Message) -> None:
            await may_go_on.wait()

        async def send(message: Message) -> None:
            sent.append(message)

        unread = [asyncio.create_task(site.app(_scope("/large"), _nothing, stuck)) for _ in range(2)]
        await turns()
        await site.app(_scope("/large"), _nothing, send)
        may_go_on.set()
        await asyncio.gather(*unread)
        return sent

    start, body = run(scenario())
    assert (start["status"], json.loads(body["body"])["type"]) == (503, "urn:headrace:problem:answers_full")
    headers = dict(start["headers"])
    assert headers[b"content-length"] == b"%d" % len(body["body"])
    assert int(headers[b"retry-after"]) >= 1 and b"x-request-id" in headers
    assert not body.get("more_body")
    assert site.requests() == {("GET", "/large", "200"): 2, ("GET", "/large", "503"): 1}
    assert site.metrics.registry.get_sample_value("inference_rejections_total", {"reason": "answers_full"}) == 1
    assert site.answers.held_bytes == 0


def test_an_answer_that_broke_off_is_not_answered_twice(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    run(site.app(_scope("/half"), _nothing, send))

    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert "sesame" in caplog.text
    assert site.requests() == {("GET", "/half", "200"): 1}


def test_a_request_that_is_cancelled_at_the_stop_is_answered() -> None:
    site = Site()
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def scenario() -> None:
        request = asyncio.create_task(site.app(_scope("/slow"), _nothing, send))
        await turns()
        request.cancel()
        await request

    run(scenario())
    start, body = sent
    assert (start["status"], json.loads(body["body"])["type"]) == (503, "urn:headrace:problem:stopping")
    assert int(dict(start["headers"])[b"retry-after"]) >= 1
    assert site.requests() == {("GET", "/slow", "503"): 1}


def test_a_caller_who_left_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    site = Site()
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    with caplog.at_level(logging.INFO):
        run(site.app(_scope("/left"), _nothing, send))

    assert sent == []
    assert caplog.records == []
    assert site.requests() == {("GET", "/left", "499"): 1}


@pytest.mark.parametrize(
    ("method", "path", "labels"),
    [
        ("GET", "/fine", ("GET", "/fine", "200")),
        ("POST", "/fine?x=1", ("POST", "/fine", "200")),
        ("HEAD", "/fine", ("HEAD", "/fine", "200")),
        ("DELETE", "/fine", ("DELETE", "/fine", "405")),
        ("GET", "/jobs/some-id", ("GET", "/jobs/{job_id}", "200")),
        ("PUT", "/jobs/some-id", ("PUT", "/jobs/{job_id}", "405")),
        ("POST", "/models/sticks/fine", ("POST", "/models/{name}/fine", "200")),
        ("GET", "/models/sticks/fine", ("GET", "/models/{name}/fine", "405")),
        ("GET", "/made-up/by-a-caller", ("GET", "__unmatched__", "200")),
        ("GET", "/nothing/at/all", ("GET", "__unmatched__", "404")),
        ("GET", "/jobs/a/b", ("GET", "__unmatched__", "404")),
        ("GET", "/fine/", ("GET", "__unmatched__", "307")),
        ("BREW", "/fine", ("OTHER", "/fine", "405")),
        ("BREW2", "/coffee", ("OTHER", "__unmatched__", "404")),
    ],
)
def test_requests_are_counted_by_labels_that_callers_can_not_make_up(
    site: Site, method: str, path: str, labels: tuple[str, str, str]
) -> None:
    site.ask(method, path)

    assert site.requests() == {labels: 1}
    [seconds] = site.metrics.http_seconds.collect()
    counts = [sample for sample in seconds.samples if sample.name.endswith("_count")]
    assert [(sample.labels, sample.value) for sample in counts] == [({"method": labels[0], "route": labels[1]}, 1)]


def test_what_is_not_http_passes_uncounted() -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    metrics = GatewayMetrics()
    run(RequestMiddleware(app, Exchanges(metrics))({"type": "lifespan"}, _nothing, _nothing))  # type: ignore[arg-type]

    assert seen == ["lifespan"]
    [family] = metrics.http_requests.collect()
    assert family.samples == []


async def _nothing() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


def _scope(path: str) -> Scope:
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("gateway", 80),
        "client": ("127.0.0.1", 1),
    }
