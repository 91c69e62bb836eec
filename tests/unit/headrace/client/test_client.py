import json
import math
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import httpx
import numpy as np
import pytest

from headrace import Client, HeadraceError, ProblemError
from headrace.client import errors

Handler = Callable[[httpx.Request], httpx.Response]


class Gateway:
    """A transport that answers with the given responses in turn, and keeps the requests."""

    def __init__(self, *responses: httpx.Response) -> None:
        self.requests: list[httpx.Request] = []
        self._responses = list(responses)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self._responses.pop(0)

    def client(self, **options: Any) -> Client:
        return Client("http://gateway:8000", transport=httpx.MockTransport(self), **{"retries": 0, **options})


def problem(status: int, code: str, headers: dict[str, str] | None = None, **members: Any) -> httpx.Response:
    document = {"type": f"urn:headrace:problem:{code}", "title": "t", "status": status, "detail": "a reason", **members}
    return httpx.Response(status, json=document, headers=headers)


def view(status: str, **members: Any) -> httpx.Response:
    return httpx.Response(200, json={"id": "j1", "status": status, "model": "m", "version": "v1", **members})


def test_a_row_is_predicted() -> None:
    gateway = Gateway(httpx.Response(200, json={"prediction": "stays", "model": "churn", "version": "v1"}))

    with gateway.client(key="secret") as client:
        answer = client.predict({"age": np.float64(42.0), "city": None}, deadline=0.5)

    assert answer["prediction"] == "stays"
    [request] = gateway.requests
    assert (request.method, str(request.url)) == ("POST", "http://gateway:8000/predict?deadline=0.5")
    assert json.loads(request.content) == {"age": 42.0, "city": None}
    assert request.headers["authorization"] == "Bearer secret"
    assert request.headers["content-type"] == "application/json"


def test_rows_are_predicted_by_a_version() -> None:
    gateway = Gateway(httpx.Response(200, json={"predictions": [1, 2]}))

    answer = gateway.client().predict([{"x": 1.0}, {"x": 2.0}], model="m", version="v 1")

    assert answer == {"predictions": [1, 2]}
    [request] = gateway.requests
    assert request.url.raw_path == b"/models/m/versions/v%201/predict"
    assert json.loads(request.content) == {"instances": [{"x": 1.0}, {"x": 2.0}]}
    assert "authorization" not in request.headers


def test_a_deadline_beyond_the_timeout_extends_it() -> None:
    gateway = Gateway(httpx.Response(200, json={"prediction": 1}))

    gateway.client(timeout=2.0).predict({"x": 1.0}, deadline=20.0)

    assert gateway.requests[0].extensions["timeout"]["read"] == 21.0


@pytest.mark.parametrize("seconds", ["2 s", "2", 0, -1.0, math.nan, math.inf, 10**400, True])
def test_a_time_that_is_no_number_of_seconds_is_refused_before_anything_is_sent(seconds: Any) -> None:
    gateway = Gateway()

    with pytest.raises(errors.ClientMisused, match=r"^deadline is a number of seconds above 0, at most 1,000,000, and"):
        gateway.client().predict({"x": 1.0}, deadline=seconds)
    with pytest.raises(errors.ClientMisused, match=r"^timeout is a number of seconds above 0, at most 1,000,000, and"):
        gateway.client(timeout=seconds)
    assert gateway.requests == []


@pytest.mark.parametrize("timeout", ["2 s", math.nan])
def test_a_job_is_not_waited_for_without_a_number_of_seconds(timeout: Any) -> None:
    with pytest.raises(errors.ClientMisused, match=r"^timeout is a number of seconds or None, and not"):
        Gateway().client().job("j1").result(timeout)


WRONG_ARGUMENTS: list[tuple[Callable[[], Any], str]] = [
    (lambda: Client(None), "url is a text, and not of type NoneType"),  # type: ignore[arg-type]
    (lambda: Client("http://gateway", key=b"secret"), "key is a text, and not of type bytes"),  # type: ignore[arg-type]
    (lambda: Client("http://gateway", retries=1.5), "retries is a whole number, and not of type float"),  # type: ignore[arg-type]
    (lambda: Client("http://gateway", retries=True), "retries is a whole number, and not of type bool"),
    (lambda: Client("http://gateway", retries=-1), "retries is 0 at least, and not -1"),
    (lambda: Gateway().client().predict({}, model=5), "5 is no name of a model or version, and no id of a job"),  # type: ignore[arg-type]
    (lambda: Gateway().client().predict({}, split_key=5), "split_key is a text, and not of type int"),  # type: ignore[arg-type]
    (lambda: Gateway().client().model(None), "None is no name of a model"),  # type: ignore[arg-type]
    (lambda: Gateway().client().job(None).view(), "None is no name of a model"),  # type: ignore[arg-type]
    (lambda: [*Gateway().client().jobs(since="today")], "since is a datetime, and not of type str"),  # type: ignore[arg-type]
    (lambda: [*Gateway().client().jobs(model=5)], "model is a text, and not of type int"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "message"), WRONG_ARGUMENTS, ids=[message for _, message in WRONG_ARGUMENTS])
def test_an_argument_of_another_type_is_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(errors.ClientMisused, match=f"^{message}"):
        call()


def test_a_version_without_a_model_is_refused() -> None:
    with pytest.raises(ValueError, match="version needs model"):
        Gateway().client().predict({"x": 1.0}, version="v1")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidRequest),
        (401, errors.Unauthorized),
        (403, errors.Unauthorized),
        (404, errors.NotFound),
        (409, ProblemError),
        (422, errors.InvalidRequest),
        (429, errors.RateLimited),
        (500, ProblemError),
        (503, errors.Unavailable),
        (504, errors.DeadlineExceeded),
    ],
)
def test_a_problem_is_an_exception_of_its_kind(status: int, kind: type[ProblemError]) -> None:
    gateway = Gateway(problem(status, "a_code", {"Retry-After": "3"}, rows=[1]))

    with pytest.raises(ProblemError) as caught:
        gateway.client().predict({"x": 1.0})

    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.detail, error.retry_after) == (status, "a_code", "a reason", 3.0)
    assert error.members["rows"] == [1]
    assert str(error) == f"{status} a_code: a reason"


def test_the_text_of_an_error_names_the_wrong_values() -> None:
    mistakes = [{"pointer": f"/instances/{row}/town", "detail": "this must be a text"} for row in range(7)]
    gateway = Gateway(problem(422, "invalid_rows", errors=mistakes))

    with pytest.raises(errors.InvalidRequest) as caught:
        gateway.client().predict({"x": 1.0})

    assert str(caught.value).startswith(
        "422 invalid_rows: a reason (/instances/0/town: this must be a text; /instances/1"
    )
    assert str(caught.value).endswith("/instances/4/town: this must be a text, and 2 more)")
    assert caught.value.members["errors"] == mistakes


def test_a_path_that_the_gateway_does_not_have_asks_for_its_root() -> None:
    gateway = Gateway(problem(404, "not_found", detail="Not Found"))
    client = Client("http://gateway/predict", transport=httpx.MockTransport(gateway))

    with pytest.raises(errors.NotFound, match=r"^404 not_found: .* should be the gateway's root, such as http://"):
        client.predict({"x": 1.0})


@pytest.mark.parametrize("strange", ["text", [1, None], {}, None])
def test_an_error_of_another_form_is_still_an_error(strange: Any) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"^422 a_code: a reason$"):
        Gateway(problem(422, "a_code", errors=strange)).client().predict({"x": 1.0})


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000",
        "gateway",
        "",
        "http://",
        "ftp://gateway",
        "http://gateway:port",
        "http://gateway:65536",
    ],
)
def test_an_address_that_is_none_is_refused_with_an_example(url: str) -> None:
    with pytest.raises(errors.ClientMisused, match="is no address of a gateway: ") as caught:
        Client(url)

    assert isinstance(caught.value, HeadraceError) and isinstance(caught.value, ValueError)


@pytest.mark.parametrize("key", ["", "secret\n", "two words", "schlüssel"])
def test_a_key_that_can_be_none_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(errors.ClientMisused) as caught:
        Client("http://gateway", key=key)

    assert not key or key.strip() not in str(caught.value)


def test_a_closed_client_says_so() -> None:
    with Gateway().client() as client:
        pass

    for ask in (lambda: client.predict({"x": 1.0}), lambda: client.submit({"x": 1.0}), client.job("j1").result):
        with pytest.raises(errors.ClientMisused, match=r"^this client is closed: make a new one$"):
            ask()


@pytest.mark.parametrize("content", [b"<html>", b"[]", b""])
def test_an_error_of_something_in_between_is_a_problem_too(content: bytes) -> None:
    with pytest.raises(ProblemError) as caught:
        Gateway(httpx.Response(502, content=content)).client().predict({"x": 1.0})

    assert (caught.value.status, caught.value.code, caught.value.retry_after) == (502, "", None)


def test_no_answer_is_an_exception_that_names_the_gateway_without_a_password() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    client = Client("http://me:secret@gateway:8000", transport=httpx.MockTransport(refuse), retries=0)
    with pytest.raises(HeadraceError, match=r"^http://gateway:8000: ConnectError: refused$") as caught:
        client.predict({"x": 1.0})

    assert type(caught.value) is errors.GatewayUnreachable


def test_a_call_that_gets_no_connection_in_its_time_blames_the_client() -> None:
    def crowded(_: httpx.Request) -> httpx.Response:
        raise httpx.PoolTimeout("")

    with pytest.raises(
        errors.GatewayUnreachable, match=r"^this client had too many calls at once: .* for 2 s$"
    ) as caught:
        Client("http://gateway", timeout=2, transport=httpx.MockTransport(crowded), retries=0).predict({"x": 1.0})

    assert not caught.value.sent


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the pauses that were made, which take no time."""
    made: list[float] = []
    monkeypatch.setattr("time.sleep", made.append)
    return made


def test_a_job_is_submitted_and_its_result_waited_for(pauses: list[float]) -> None:
    gateway = Gateway(
        httpx.Response(202, json={"id": "j1", "status": "queued"}),
        view("queued"),
        view("running"),
        view("succeeded", result={"predictions": ["a", "b"]}),
    )
    job = gateway.client().submit([{"x": 1.0}, {"x": 2.0}], model="m", idempotency_key="k")

    assert repr(job) == "Job('j1')"
    assert job.status() == "queued"
    assert job.result() == {"predictions": ["a", "b"], "model": "m", "version": "v1"}
    submitted, asked, *waited = gateway.requests
    assert (submitted.url.path, submitted.headers["idempotency-key"]) == ("/models/m/jobs", "k")
    assert asked.url == "http://gateway:8000/jobs/j1"
    assert [request.url.query for request in waited] == [b"wait=5.0", b"wait=5.0"]
    assert pauses == [1.0], "a gateway that does not wait is stopping"


@pytest.mark.parametrize(("longest", "asked"), [(2.0, [5.0, 2.5, 1.25, 1.25]), (0.01, [5.0, 2.5, 1.25, 0.625])])
def test_a_gateway_that_allows_shorter_waits_only_is_asked_so(
    pauses: list[float], longest: float, asked: list[float]
) -> None:
    waits: list[float] = []
    answers = [view("running"), view("succeeded", result={"prediction": 1})]

    def answer(request: httpx.Request) -> httpx.Response:
        waits.append(float(request.url.params.get("wait", 0)))
        if waits[-1] > longest:
            return problem(422, "invalid_parameter", errors=[{"parameter": "wait", "detail": "too long"}])
        return answers.pop(0)

    client = Client("http://gateway", transport=httpx.MockTransport(answer))
    assert client.job("j1").result() == {"prediction": 1, "model": "m", "version": "v1"}
    assert waits[:4] == asked
    assert len(waits) <= 10


def test_another_wrong_parameter_is_not_tried_again() -> None:
    refused = problem(422, "invalid_parameter", errors=[{"parameter": "job_id", "detail": "too long"}])
    with pytest.raises(errors.InvalidRequest, match="job_id: too long"):
        Gateway(refused).client().job("j" * 65).result()


def test_a_job_that_takes_too_long_is_a_timeout() -> None:
    job = Gateway(view("running")).client().job("j1")

    with pytest.raises(TimeoutError, match="job j1 is running after 0 s") as caught:
        job.result(timeout=0)
    assert isinstance(caught.value, HeadraceError)


@pytest.mark.parametrize(
    ("ended", "message", "rows"),
    [
        (
            view("failed", error={"code": "prediction_failed", "message": "no such city", "rows": [1]}),
            "job j1 is failed: prediction_failed: no such city",
            [1],
        ),
        (view("cancelled"), "job j1 is cancelled", []),
    ],
)
def test_a_job_without_a_result_is_an_exception(ended: httpx.Response, message: str, rows: list[int]) -> None:
    with pytest.raises(errors.JobFailed, match=f"^{message}$") as caught:
        Gateway(ended).client().job("j1").result()

    assert caught.value.rows == rows


def test_jobs_are_listed_page_by_page() -> None:
    gateway = Gateway(
        httpx.Response(200, json={"jobs": [{"id": "j3"}, {"id": "j2"}], "next": "abc"}),
        httpx.Response(200, json={"jobs": [], "next": "def"}),
        httpx.Response(200, json={"jobs": [{"id": "j1"}]}),
    )

    since = datetime(2026, 11, 27, 9, tzinfo=timezone.utc)
    listed = gateway.client().jobs(status="failed", since=since)

    assert next(listed)["id"] == "j3"
    assert len(gateway.requests) == 1, "a page is fetched when it is needed"
    assert [job["id"] for job in listed] == ["j2", "j1"]
    first = {"status": "failed", "since": "2026-11-27T09:00:00+00:00", "limit": "500"}
    asked = [dict(request.url.params) for request in gateway.requests]
    assert asked == [first, {**first, "cursor": "abc"}, {**first, "cursor": "def"}]


def test_a_result_that_made_room_is_an_error_and_its_status_is_known() -> None:
    gone = problem(410, "result_expired", job={"id": "j1", "status": "succeeded"})
    gateway = Gateway(gone, gone, gone)
    job = gateway.client().job("j1")

    with pytest.raises(errors.ResultExpired):
        job.result()
    assert job.status() == "succeeded"
    with pytest.raises(errors.ResultExpired) as caught:
        job.view()
    assert caught.value.members["job"] == {"id": "j1", "status": "succeeded"}


def test_a_job_is_shown_as_the_gateway_shows_it() -> None:
    gateway = Gateway(view("running", accepted_at="2026-11-27T09:00:00Z"))

    shown = gateway.client().job("j1").view()

    assert (shown["status"], shown["accepted_at"], shown["model"]) == ("running", "2026-11-27T09:00:00Z", "m")


def test_a_job_is_deleted() -> None:
    gateway = Gateway(httpx.Response(204), problem(404, "unknown_job"))
    job = gateway.client().job("j 1")

    job.delete()

    with pytest.raises(errors.NotFound):
        job.delete()
    assert {(request.method, request.url.raw_path) for request in gateway.requests} == {("DELETE", b"/jobs/j%201")}


def test_models_are_listed_and_described() -> None:
    listed = [{"name": "m", "default": True, "aliases": {"latest": "v1"}}]
    described = {"name": "m", "version": "v1", "features": [{"name": "x", "type": "number"}], "aliases": {}}
    gateway = Gateway(httpx.Response(200, json={"models": listed}), *(httpx.Response(200, json=described),) * 2)
    client = gateway.client()

    assert client.models() == listed
    assert client.model("m") == described
    assert client.model("m", "v 1") == described
    paths = [request.url.raw_path for request in gateway.requests]
    assert paths == [b"/models", b"/models/m", b"/models/m/versions/v%201"]


@pytest.mark.parametrize(("status", "state"), [(200, "ok"), (503, "unavailable")])
def test_the_health_of_a_gateway_that_does_not_serve_is_an_answer_too(status: int, state: str) -> None:
    summary = {"status": state, "reason": "no worker is running", "workers": {"live": 0}}

    assert Gateway(httpx.Response(status, json=summary)).client().health() == summary


@pytest.mark.parametrize("answer", [problem(503, "stopping"), httpx.Response(503, content=b"<html>")])
def test_no_health_is_an_error(answer: httpx.Response) -> None:
    with pytest.raises(errors.Unavailable):
        Gateway(answer).client().health()


TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_the_callers_key_and_trace_are_sent() -> None:
    gateway = Gateway(httpx.Response(200, json={"prediction": 1}), httpx.Response(202, json={"id": "j1"}))
    client = gateway.client()

    client.predict({"x": 1.0}, split_key="Käthe", traceparent=TRACEPARENT)
    client.submit({"x": 1.0}, split_key="Käthe", traceparent=TRACEPARENT)

    for request in gateway.requests:
        assert dict(request.headers.raw)[b"X-Split-Key"] == "Käthe".encode()
        assert request.headers["traceparent"] == TRACEPARENT


@pytest.mark.parametrize("name", ["split_key", "traceparent", "idempotency_key"])
@pytest.mark.parametrize("value", ["a\r\nb: c", "a\x00", " a", "a\n", "\ud800"])
def test_a_text_that_can_be_no_header_is_refused(name: str, value: str) -> None:
    arguments: dict[str, Any] = {name: value}
    with pytest.raises(errors.ClientMisused, match=f"^{name} has a control character, or begins or ends with a space$"):
        Gateway().client().submit({"x": 1.0}, **arguments)


@pytest.mark.parametrize("url", ["http://host/prefix", "http://host/prefix/"])
def test_a_gateway_may_be_behind_a_prefix(url: str) -> None:
    gateway = Gateway(httpx.Response(200, json={"prediction": 1}), view("running"), problem(404, "unknown_model"))
    client = Client(url, transport=httpx.MockTransport(gateway))

    client.predict({"x": 1.0}, model="m", deadline=1.0)
    client.job("j1").status()
    with pytest.raises(errors.NotFound):
        client.model("m", "v/1")

    paths = [request.url.raw_path for request in gateway.requests]
    assert paths == [
        b"/prefix/models/m/predict?deadline=1.0",
        b"/prefix/jobs/j1",
        b"/prefix/models/m/versions/v%2F1",
    ]


@pytest.mark.parametrize("url", ["http://host/?a=b", "http://host/#part"])
def test_an_address_with_a_query_is_refused(url: str) -> None:
    with pytest.raises(errors.ClientMisused, match="is no address of a gateway: write it as"):
        Client(url)
