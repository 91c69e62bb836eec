"""The whole app without a Redis: nothing hangs, nothing is a 500, and it says what is wrong."""

import asyncio
import gc
import math
import time
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from gateway.app import create_app
from gateway.catalog.row_parser import ParsedRows, RowParser
from gateway.fairness.turns import OwnerTurns
from gateway.problems import Problem
from gateway.services import Services
from gateway.settings import GatewaySettings
from gateway.web.request_context import RequestContext
from headrace.models.manifest import Manifest
from headrace.models.store import ModelStore
from shared.queue.contract import Lane
from tests.support.connections import started
from tests.support.coroutines import run, turns
from tests.support.lone_gateway import lone_gateway
from tests.support.manifests import classifier, feature, mixed, stored, text
from tests.support.processes import PATIENCE_SECONDS

pytestmark = pytest.mark.usefixtures("way")

ROW = {"length": 1.0, "width": 2.0}
MANIFEST = classifier()


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    """A gateway whose Redis is a port on which nobody listens."""
    stored(tmp_path / "models", MANIFEST)
    settings = GatewaySettings(
        redis_url="redis://127.0.0.1:1/0",
        model_store=str(tmp_path / "models"),
        default_model=MANIFEST.name,
        predict_deadline_seconds=0.05,
    )
    return create_app(settings)


def asked(app: FastAPI, ask: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]) -> httpx.Response:
    """The answer of a gateway that is started for this one question, and stopped after it."""

    async def asking() -> httpx.Response:
        async with started(app) as client:
            return await ask(client)

    return run(asking())


def got(app: FastAPI, path: str) -> httpx.Response:
    return asked(app, lambda client: client.get(path))


def problem_of(response: httpx.Response) -> str:
    """The kind of problem that an answer is."""
    assert response.headers["content-type"] == "application/problem+json"
    content = response.json()
    assert content["status"] == response.status_code
    kind: str = content["type"].removeprefix("urn:headrace:problem:")
    return kind


def test_without_the_default_model_the_gateway_runs_and_says_so(tmp_path: Path) -> None:
    stored(tmp_path, MANIFEST)
    app = create_app(
        GatewaySettings(redis_url="redis://127.0.0.1:1/0", model_store=str(tmp_path), default_model="none")
    )

    assert got(app, "/livez").status_code == 200
    assert (got(app, "/health").json()["model"], got(app, "/health").json()["version"]) == ("none", None)
    for path in ("/model-info", "/openapi.json"):
        answer = got(app, path)
        assert (answer.status_code, problem_of(answer)) == (404, "unknown_model")
    assert got(app, f"/models/{MANIFEST.name}").status_code == 200


def test_the_process_is_alive(app: FastAPI) -> None:
    response = got(app, "/livez")

    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_it_is_not_ready_and_soon_says_why(app: FastAPI) -> None:
    started_at = time.monotonic()
    response = got(app, "/readyz")

    assert time.monotonic() - started_at < PATIENCE_SECONDS
    assert response.status_code == 503
    assert problem_of(response) == "not_ready"
    assert response.json()["detail"] == "Redis does not answer"
    assert int(response.headers["retry-after"]) >= 1


def test_its_health_is_told_in_full(app: FastAPI) -> None:
    response = got(app, "/health")

    assert response.status_code == 503
    health = response.json()
    assert (health["status"], health["reason"], health["broker_up"]) == ("unavailable", "Redis does not answer", False)
    assert health["workers"] == {"live": 0, "slots": 0}
    assert (health["model"], health["version"]) == ("sticks", "v1")


def test_metrics_can_be_read_and_do_not_make_counters_up(app: FastAPI) -> None:
    response = got(app, "/metrics")

    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    assert families["inference_broker_up"].samples[0].value == 0
    assert families["inference_worker_slots"].samples[0].value == 0
    assert families["inference_workers_expected"].samples[0].value == 1
    assert families["inference_waiting_rows"].samples[0].value == 0
    assert "inference_jobs_accepted" not in families, "zero would look like a restart"
    requests = {(sample.labels["lane"], sample.labels["outcome"]) for sample in families["inference_requests"].samples}
    assert requests >= {(lane.value, outcome) for lane in Lane for outcome in ("ok", "invalid", "rejected", "timeout")}


def test_without_a_worker_no_wait_is_estimated(app: FastAPI) -> None:
    """The longest wait of a job, a day, would be the first value of every chart."""

    async def asking() -> set[float]:
        async with started(app) as client:
            while True:
                families = text_string_to_metric_families((await client.get("/metrics")).text)
                [waits] = [each for each in families if each.name == "inference_queue_estimated_wait_seconds"]
                seconds = {sample.value for sample in waits.samples}
                if seconds != {0.0}:
                    return seconds
                await asyncio.sleep(0.01)

    assert all(math.isnan(seconds) for seconds in run(asyncio.wait_for(asking(), 10)))


def test_model_info_is_the_manifest(app: FastAPI) -> None:
    info = got(app, "/model-info").json()

    assert (info.pop("loaded_by"), info.pop("refused")) == ([], [])
    assert (info.pop("aliases"), info.pop("moving"), info.pop("trials")) == ({"latest": "v1"}, {}, {})
    assert info == MANIFEST.model_dump(mode="json", exclude={"format_version", "golden"})


def test_a_manifest_is_written_once_however_often_it_is_asked_for(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    dump, written = Manifest.model_dump, []

    def noted(manifest: Manifest, **options: Any) -> dict[str, Any]:
        written.append(manifest.version)
        return dump(manifest, **options)

    monkeypatch.setattr(Manifest, "model_dump", noted)
    for path in ("/model-info", "/models/sticks", "/models/sticks/versions/v1"):
        assert got(app, path).json()["version"] == "v1"
    assert written == ["v1"]


@pytest.mark.parametrize("path", ["/models/sticks", "/models/sticks/versions/v1", "/models/sticks/versions/latest"])
def test_a_model_has_a_page_that_runs_nothing(app: FastAPI, path: str) -> None:
    response = got(app, f"{path}/card")

    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert {"default-src 'none'", "sandbox"} <= {*response.headers["Content-Security-Policy"].split("; ")}
    assert f"curl http://gateway{path}/predict" in response.text
    assert problem_of(got(app, "/models/none/card")) == "unknown_model"


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ({"Host": "models.example.com:8443", "X-Forwarded-Proto": "https"}, "https://models.example.com:8443"),
        ({"Host": "[::1]:8000", "X-Forwarded-Proto": "gopher"}, "http://[::1]:8000"),
        ({"Host": "a;$(id)"}, "http://127.0.0.1:8000"),
    ],
)
def test_a_page_names_the_address_by_which_it_was_asked_for(
    tmp_path: Path, headers: dict[str, str], address: str
) -> None:
    app = lone_gateway(tmp_path, root_path="/ml")
    response = asked(app, lambda client: client.get("/models/sticks/card", headers=headers))

    assert f"curl {address}/ml/models/sticks/predict" in response.text


def test_the_models_are_listed(app: FastAPI) -> None:
    [model] = got(app, "/models").json()["models"]

    assert model == {"name": "sticks", "default": True, "aliases": {"latest": "v1"}}


@pytest.mark.parametrize("path", ["/models/sticks", "/models/sticks/versions/v1", "/models/sticks/versions/latest"])
def test_a_model_and_its_version_are_described_alike(app: FastAPI, path: str) -> None:
    assert got(app, path).json() == got(app, "/model-info").json()


@pytest.mark.parametrize("path", ["/models/none", "/models/sticks/versions/v9", "/models/.."])
def test_what_the_store_does_not_have_is_404(app: FastAPI, path: str) -> None:
    async def asking() -> list[httpx.Response]:
        async with started(app) as client:
            # httpx would resolve the dots.
            plain = path.replace("..", "%2E%2E")
            return [
                await client.get(plain),
                *[await client.post(f"{plain}/{to}", json=ROW) for to in ("predict", "jobs")],
            ]

    for response in run(asking()):
        assert (response.status_code, problem_of(response)) == (404, "unknown_model")


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/models/none", "model none"),
        ("/models/none/versions/v9", "model none"),
        ("/models/sticks/versions/v9", "version or alias v9 of the model sticks"),
        ("/models/a%20b", "such model"),
        ("/models/sticks/versions/a%20b", "such version or alias of the model sticks"),
    ],
)
def test_every_route_says_the_same_of_what_the_store_does_not_have(app: FastAPI, path: str, named: str) -> None:
    async def asking() -> list[httpx.Response]:
        async with started(app) as client:
            described = [await client.get(f"{before}{path}") for before in ("", "/v1", "/v2")]
            predicted = [f"{path}/predict", f"{path}/jobs", f"/v1{path}:predict", f"/v2{path}/infer"]
            return [*described, *[await client.post(each, json=ROW) for each in predicted]]

    details = {response.json()["detail"] for response in run(asking())}

    assert details == {f"the model store has no {named}: GET /models lists the models and their aliases"}


@pytest.mark.parametrize("path", ["/predict", "/models/sticks/predict", "/models/sticks/versions/v1/predict"])
def test_without_redis_a_prediction_is_503_at_its_deadline(app: FastAPI, path: str) -> None:
    response = asked(app, lambda client: client.post(path, json=ROW))

    assert response.status_code == 503
    assert problem_of(response) == "broker_unavailable"


def full(*_: Any) -> None:
    raise Problem(503, "answers_full", "no room")


@pytest.mark.parametrize(
    ("path", "headers", "hold"),
    [
        ("/predict", {}, RequestContext.hold_answer),
        ("/predict", {}, full),
        ("/predict", {"Prefer": "wait=1"}, RequestContext.hold_answer),
        ("/jobs", {}, RequestContext.hold_answer),
    ],
)
def test_the_rows_of_a_failed_request_need_no_garbage_collector(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch, path: str, headers: dict[str, str], hold: Callable[..., None]
) -> None:
    """Failed requests of megabytes that wait for the collector would fill the memory one after the other."""
    parse = RowParser.parse
    parsed: list[weakref.ref[ParsedRows]] = []

    def parsing(parser: RowParser, body: bytes) -> ParsedRows:
        rows = parse(parser, body)
        parsed.append(weakref.ref(rows))
        return rows

    monkeypatch.setattr(RowParser, "parse", parsing)
    monkeypatch.setattr(RequestContext, "hold_answer", hold)

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        gc.disable()
        try:
            answer = await client.post(path, json={"instances": [ROW]}, headers=headers)
            # The future that has woken this task is in use until the task waits again.
            await turns()
            assert [rows() for rows in parsed] == [None]
        finally:
            gc.enable()
        return answer

    assert asked(app, ask).status_code == 503


def test_large_answers_are_written_one_at_a_time_in_turns_of_their_owners(tmp_path: Path) -> None:
    async def scenario() -> None:
        turn_of = Services(GatewaySettings(), ModelStore(tmp_path)).answers.turn_of
        order = []

        async def write(owner: str) -> None:
            async with turn_of(owner):
                order.append(owner)

        async with turn_of("a"):
            writing = [asyncio.create_task(write(owner)) for owner in "aab"]
            await turns()
            assert order == []
        await asyncio.gather(*writing)
        assert order == ["b", "a", "a"], "a had the last turn"

    run(scenario())


COLUMN = {"name": "0", "datatype": "FP64", "shape": [100], "data": [1] * 100}


@pytest.mark.parametrize(
    ("path", "body", "turns_taken"),
    [
        ("/v2/models/sticks/infer", {"inputs": [COLUMN]}, 1),
        ("/v2/models/sticks/infer", {"inputs": [{**COLUMN, "shape": [1], "data": [1]}]}, 0),
        ("/v1/models/sticks:predict", {"inputs": {"0": [1] * 100}}, 1),
        ("/v1/models/sticks:predict", {"instances": [{"0": 1}] * 100}, 1),
        ("/v1/models/sticks:predict", {"instances": [{"0": 1}]}, 0),
        ("/invocations", {"dataframe_split": {"columns": ["0"], "data": [[1]] * 100}}, 1),
        ("/invocations", {"dataframe_records": [{"0": 1}] * 100}, 1),
        ("/invocations", "0\n" + "1\n" * 100, 1),
        ("/invocations", "0\n1\n", 0),
        ("/predict", {"instances": [{"0": 1}] * 100}, 1),
        ("/predict", {"0": 1}, 0),
    ],
)
@pytest.mark.parametrize("nullable", [True, False])
def test_a_few_bytes_that_stand_for_many_values_wait_for_their_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, body: Any, turns_taken: int, nullable: bool
) -> None:
    features = [feature("0"), *(feature(f"{at:x}", nullable=nullable) for at in range(1, 200))]
    stored(tmp_path / "models", classifier().model_copy(update={"features": features, "samples": []}))
    app = create_app(
        GatewaySettings(
            redis_url="redis://127.0.0.1:1/0",
            model_store=str(tmp_path / "models"),
            default_model="sticks",
            predict_deadline_seconds=0.05,
        )
    )
    taken, of = [], OwnerTurns.of

    def noted(turns: OwnerTurns, owner: str, wait_max_seconds: float | None = None) -> Any:
        taken.append(owner)
        return of(turns, owner, wait_max_seconds)

    async def asking() -> httpx.Response:
        async with started(app) as client:
            monkeypatch.setattr(OwnerTurns, "of", noted)
            if isinstance(body, str):
                return await client.post(path, content=body, headers={"Content-Type": "text/csv"})
            return await client.post(path, json=body)

    response = run(asking())

    # No broker answers: which of two deadlines passes first depends on the machine.
    assert response.status_code in ((503, 504) if nullable else (422,)), response.text
    assert len([line for line in taken if line.startswith(" ")]) == turns_taken


NAMES = [f"{at:x}" for at in range(200)]
WIDE = classifier(NAMES)
TEXTS = mixed(text("words", None).model_copy(update={"longest": 5000}))
EMOJI = {"words": "\U0001f600" + "a" * 30_000}


@pytest.mark.parametrize("path", ["/predict", "/jobs"])
@pytest.mark.parametrize(
    ("manifest", "body"),
    [(WIDE, {"instances": [dict.fromkeys(NAMES, 1)] * 20}), (TEXTS, {"instances": [EMOJI]}), (TEXTS, EMOJI)],
    ids=["many values", "instances with an emoji", "a row with an emoji"],
)
def test_the_rows_of_requests_that_wait_count_with_their_bodies(
    tmp_path: Path, path: str, manifest: Manifest, body: dict[str, Any]
) -> None:
    stored(tmp_path / "models", manifest)
    app = create_app(
        GatewaySettings(
            redis_url="redis://127.0.0.1:1/0",
            model_store=str(tmp_path / "models"),
            default_model=manifest.name,
            predict_deadline_seconds=0.2,
            body_max_bytes=60_000,
            bodies_max_bytes=150_000,
        )
    )

    async def asking() -> list[tuple[int, str]]:
        async with started(app) as client:
            waiting = asyncio.create_task(client.post("/predict", json=body))
            await turns(300)
            answers = [await client.post(path, json=body), await waiting]
            return [(answer.status_code, problem_of(answer)) for answer in answers]

    assert run(asking()) == [(503, "bodies_full"), (503, "broker_unavailable")]


@pytest.mark.parametrize(
    ("path", "headers"), [("/jobs", {}), ("/models/sticks/jobs", {}), ("/predict", {"Prefer": "wait=1"})]
)
def test_a_job_is_503_at_once(app: FastAPI, path: str, headers: dict[str, str]) -> None:
    response = asked(app, lambda client: client.post(path, json=ROW, headers=headers))

    assert response.status_code == 503
    assert problem_of(response) == "broker_unavailable"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_looking_a_job_up_is_503_and_not_404(app: FastAPI, method: str) -> None:
    response = asked(app, lambda client: client.request(method, "/jobs/some-id"))

    assert response.status_code == 503
    assert problem_of(response) == "broker_unavailable"


@pytest.mark.parametrize(("path", "headers"), [("/jobs", {}), ("/predict", {"Prefer": "respond-async"})])
@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_that_can_be_none_is_422_wherever_it_comes(
    app: FastAPI, path: str, headers: dict[str, str], key: str
) -> None:
    response = asked(app, lambda client: client.post(path, json=ROW, headers={**headers, "Idempotency-Key": key}))

    assert response.status_code == 422
    assert problem_of(response) == "invalid_parameter"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/predict", 405, "method_not_allowed"),
        ("PUT", "/jobs/x", 405, "method_not_allowed"),
        ("GET", "/jobs/x?wait=soon", 422, "invalid_parameter"),
        ("GET", "/jobs/x?wait=-1", 422, "invalid_parameter"),
        ("GET", "/jobs/x?wait=nan", 422, "invalid_parameter"),
        ("GET", "/jobs/x?wait=60.1", 422, "invalid_parameter"),
        ("GET", "/jobs/" + "x" * 65, 422, "invalid_parameter"),
        ("POST", "/predict?deadline=0", 422, "invalid_parameter"),
        ("POST", "/predict?deadline=inf", 422, "invalid_parameter"),
        ("POST", "/predict?deadline=soon", 422, "invalid_parameter"),
        ("POST", "/predict?deadline=1" + 100 * "&a", 422, "invalid_parameter"),
        ("POST", "/predict?deadline=1_0", 422, "invalid_parameter"),
    ],
)
def test_what_is_asked_wrongly_is_a_problem_too(app: FastAPI, method: str, path: str, status: int, code: str) -> None:
    body = {"json": ROW} if method == "POST" else {}
    response = asked(app, lambda client: client.request(method, path, **body))  # type: ignore[arg-type]

    assert response.status_code == status
    assert problem_of(response) == code
    assert "x-request-id" in response.headers


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/predict", "POST"),
        ("/jobs/x", "DELETE, GET, HEAD"),
        ("/models/sticks", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(app: FastAPI, path: str, allowed: str) -> None:
    response = asked(app, lambda client: client.request("PATCH", path))

    assert (response.status_code, response.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/predict", "/models/sticks/predict", "/models/sticks/jobs"])
def test_head_is_a_wrong_method_where_get_is(app: FastAPI, path: str) -> None:
    response = asked(app, lambda client: client.head(path))

    assert (response.status_code, response.headers["allow"], response.content) == (405, "POST", b"")


def test_head_is_answered_like_get_wherever_there_is_get(app: FastAPI) -> None:
    document = got(app, "/openapi.json").json()
    paths = {path for path, operations in document["paths"].items() if "get" in operations}
    paths |= {"/docs", "/docs/docs.js", "/openapi.json", "/nothing"}
    filled = [
        path.replace("{name}", "sticks").replace("{version}", "v1").replace("{job_id}", "x") for path in sorted(paths)
    ]

    async def asking() -> str:
        async with started(app) as client:
            for path in filled:
                one, other = await client.get(path), await client.head(path)
                # What changes with the time, and the length of what names it.
                changing = {"x-request-id", "retry-after", "content-length"}
                assert other.status_code == one.status_code, path
                assert other.content == b""
                assert int(other.headers["content-length"]) > 0
                assert {name: other.headers[name] for name in other.headers if name not in changing} == {
                    name: one.headers[name] for name in one.headers if name not in changing
                }
            return (await client.get("/metrics")).text

    metrics = run(asking())
    assert len(filled) >= 11
    assert 'inference_http_requests_total{method="HEAD",route="/models/{name}",status="200"} 1.0' in metrics
    assert "head" not in {method for operations in document["paths"].values() for method in operations}


def test_rejections_are_counted_by_reason(app: FastAPI) -> None:
    async def asking() -> str:
        async with started(app) as client:
            await client.post("/predict", json=ROW)
            await client.post("/jobs", json=ROW)
            await client.post("/predict", json={})
            return (await client.get("/metrics")).text

    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(run(asking()))
        for sample in family.samples
    }
    assert samples["inference_rejections_total", "broker_unavailable"] == 2
    assert samples["inference_requests_total", "interactive", "rejected", "sticks"] == 1
    assert samples["inference_requests_total", "bulk", "rejected", "sticks"] == 1
    assert samples["inference_requests_total", "interactive", "invalid", "sticks"] == 1
    assert samples["inference_requests_in_progress", "interactive"] == 0


def test_a_prediction_that_is_cancelled_at_the_stop_is_refused(app: FastAPI) -> None:
    async def asking() -> tuple[httpx.Response, str]:
        async with started(app) as client:
            request = asyncio.create_task(client.post("/predict?deadline=50", json=ROW))
            await turns(50)
            request.cancel()
            return await request, (await client.get("/metrics")).text

    response, metrics = run(asking())
    assert (response.status_code, problem_of(response)) == (503, "stopping")
    assert int(response.headers["retry-after"]) >= 1
    assert 'inference_rejections_total{reason="stopping"} 1.0' in metrics
    assert 'inference_requests_in_progress{lane="interactive"} 0.0' in metrics


def test_the_docs_describe_this_model(app: FastAPI) -> None:
    document = got(app, "/openapi.json").json()

    one, _ = document["components"]["schemas"]["Rows"]["oneOf"]
    assert list(one["properties"]) == ["length", "width"]
    assert {"/predict", "/jobs", "/jobs/{job_id}", "/livez", "/readyz", "/metrics"} <= set(document["paths"])
    refs = _refs(document)
    assert refs
    assert {ref.removeprefix("#/components/schemas/") for ref in refs} <= set(document["components"]["schemas"])


def test_jobs_in_the_docs_lead_to_what_can_be_asked_about_them(app: FastAPI) -> None:
    paths = got(app, "/openapi.json").json()["paths"]
    ids = [operation["operationId"] for item in paths.values() for operation in item.values() if "tags" in operation]

    assert len(set(ids)) == len(ids)
    for path, method, status in (
        ("/jobs", "post", "202"),
        ("/predict", "post", "202"),
        ("/jobs/{job_id}", "get", "200"),
    ):
        links = paths[path][method]["responses"][status]["links"]
        assert {link["operationId"] for link in links.values()} == {"get_job", "delete_job"} <= set(ids)


def test_the_examples_of_the_docs_are_rows_of_the_model(app: FastAPI) -> None:
    async def asking() -> list[int]:
        async with started(app) as client:
            document = (await client.get("/openapi.json")).json()
            body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
            answers = [await client.post("/predict", json=example["value"]) for example in body["examples"].values()]
            return [answer.status_code for answer in answers]

    assert run(asking()) == [503, 503], "accepted, but there is no worker"


def test_it_stops_though_redis_was_never_there(app: FastAPI) -> None:
    async def start_and_stop() -> None:
        async with started(app):
            await asyncio.sleep(0)

    started_at = time.monotonic()
    run(start_and_stop())
    assert time.monotonic() - started_at < PATIENCE_SECONDS


def _refs(part: Any) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*map(_refs, part.values()))
    return set().union(*map(_refs, part)) if isinstance(part, list) else set()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/predict", 405),
        ("PUT", "/models/sticks/jobs", 405),
        ("POST", "/predict/", 404),
        ("POST", "/predic", 404),
    ],
)
def test_the_short_way_to_hot_routes_changes_no_other_answer(app: FastAPI, method: str, path: str, status: int) -> None:
    response = asked(app, lambda client: client.request(method, path, json=ROW))

    assert response.status_code == status
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/predict", "/models/sticks/predict", "/models/sticks/versions/v1/predict"])
def test_a_hot_request_is_counted_and_has_its_id(app: FastAPI, path: str) -> None:
    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        answer = await client.post(path, json=ROW, headers={"X-Request-ID": "mine"})
        assert (answer.status_code, answer.headers["x-request-id"]) == (503, "mine")
        return await client.get("/metrics")

    template = path.replace("/sticks", "/{name}").replace("/v1", "/{version}")
    assert f'inference_http_requests_total{{method="POST",route="{template}",status="503"}} 1.0' in asked(app, ask).text


@pytest.mark.parametrize("path", ["/livez", "/jobs/x", "/predict"])
def test_cookies_are_not_parsed(app: FastAPI, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Hold what a header of 64 kB that is full of escapes may cost: Python 3.11.7 takes 15 s to parse it."""
    parsed: list[str] = []
    monkeypatch.setattr("starlette.requests.cookie_parser", parsed.append)
    cookies = [("Cookie", "a=1"), ("COOKIE", 'b="' + 1_000 * '\\"' + '"')]

    status = asked(app, lambda client: client.get(path, headers=cookies)).status_code

    assert status == {"/livez": 200, "/jobs/x": 503, "/predict": 405}[path]
    assert parsed == []
