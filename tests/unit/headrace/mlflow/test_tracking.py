from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import httpx
import pytest

from headrace.errors import HeadraceError, MlflowUnusable
from headrace.mlflow import folders
from headrace.mlflow.folders import folder_of
from headrace.mlflow.following import Follower, described, pause
from headrace.mlflow.reference import Registered, parsed
from headrace.mlflow.tracking import ModelVersion, TrackingServer
from headrace.models.store import ModelStore
from tests.unit.headrace.cli.versions import add

ADDRESS = "http://user:secret@mlflow.test/root/"
WANTED = Registered("iris", alias="champion")
Answer = Callable[[httpx.Request], httpx.Response]


def server(answer: Answer | httpx.Response, address: str = ADDRESS, seconds: float = 60.0, **variables: str) -> Any:
    transport = httpx.MockTransport(answer if callable(answer) else lambda _: answer)
    return TrackingServer(address, variables, seconds, transport)


def version(number: str = "3", **changes: Any) -> httpx.Response:
    return httpx.Response(200, json={"model_version": {"version": number, "creation_timestamp": 1000, **changes}})


def test_an_alias_is_looked_up_with_credentials() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return version()

    found = server(answer, "http://mlflow.test/root", MLFLOW_TRACKING_TOKEN="token").version(WANTED)
    server(answer, MLFLOW_TRACKING_USERNAME="me", MLFLOW_TRACKING_PASSWORD="p").version(WANTED)

    assert (found.number, found.created_at) == ("3", "1970-01-01T00:00:01.000+00:00")
    assert str(seen[0].url) == "http://mlflow.test/root/api/2.0/mlflow/registered-models/alias?name=iris&alias=champion"
    assert seen[0].headers["authorization"] == "Bearer token"
    assert seen[1].headers["authorization"] == httpx.BasicAuth("me", "p")._auth_header


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (httpx.Response(302, headers={"Location": "http://other.test/"}), "redirects to another address"),
        (httpx.Response(400, json={"message": "alias\nnope not found"}), "it answers 400: alias nope not found$"),
        (httpx.Response(500, content=b"<html>"), "it answers 500$"),
        (httpx.Response(200, content=b"<html>"), "no MLflow server"),
        (httpx.Response(200, json=[]), "no MLflow server"),
        (httpx.Response(200, json={"model_version": None}), "names no version"),
        (httpx.Response(200, json={"model_version": {"version": "x"}}), "names no version"),
        (version("../../x"), "names no version"),
        (version("-1"), "is version -1"),
        (version("9" * 30), "is version 9{18}$"),
        (version(creation_timestamp=10**30), "names no version"),
        (httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=httpx.ByteStream(b"x")), "is compressed"),
        (httpx.Response(200, content=b"x" * 16_000_001), "more than 16,000,000 bytes"),
    ],
    ids=range(13),
)
def test_an_answer_that_is_not_as_it_should_is_one_error(response: httpx.Response, reason: str) -> None:
    with pytest.raises(MlflowUnusable, match=reason) as refused:
        server(response).version(WANTED)

    assert "secret" not in str(refused.value)


def test_a_server_that_trickles_is_given_up() -> None:
    class Endless(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield b" "

    with pytest.raises(MlflowUnusable, match=r"longer than 0.01 s"):
        server(httpx.Response(200, stream=Endless()), seconds=0.01).version(WANTED)


def test_a_server_that_is_not_there_is_one_error() -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(MlflowUnusable, match="ConnectError: refused"):
        server(answer).version(WANTED)


@pytest.mark.parametrize("address", ["", "file:///tmp", "databricks", "http://host:port"])
def test_an_address_of_another_kind_is_refused(address: str) -> None:
    with pytest.raises(MlflowUnusable, match="tracking server"):
        TrackingServer(None, {"MLFLOW_TRACKING_URI": address})


@pytest.mark.parametrize("text", ["models:/iris", "models:/iris@", "models:/a/b/c", "models:/iris/x", "models:iris/1"])
def test_a_name_without_version_or_alias_is_refused(text: str) -> None:
    with pytest.raises(MlflowUnusable, match="neither"):
        parsed(text)


def test_names_of_mlflow_are_read() -> None:
    assert parsed("models:/iris@champion") == WANTED
    assert parsed("models:/iris/7") == Registered("iris", version="7")
    assert parsed("a/folder") == Path("a/folder")


def test_artifacts_are_read_from_the_server_that_was_named() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text=request.url.path)

    tracking = server(answer)
    read = folder_of(tracking, "mlflow-artifacts:/0/models/m-1/artifacts")

    assert read("MLmodel", 100) == b"/root/api/2.0/mlflow-artifacts/artifacts/0/models/m-1/artifacts/MLmodel"
    assert folder_of(tracking, "mlflow-artifacts://mlflow.test/0/a")("x", 100).endswith(b"/0/a/x")
    with pytest.raises(MlflowUnusable, match="more than 10 bytes"):
        read("MLmodel", 10)
    with pytest.raises(MlflowUnusable, match="no path inside"):
        read("../MLmodel", 100)


@pytest.mark.parametrize(
    "location", ["mlflow-artifacts://other.test/0/a", "mlflow-artifacts:/../a", "http://other.test/a", "ftp://x/a"]
)
def test_places_that_a_server_may_not_choose_are_refused(location: str) -> None:
    with pytest.raises(MlflowUnusable):
        folder_of(server(version()), location)


@pytest.fixture
def filled(tmp_path: Path) -> ModelStore:
    store = ModelStore(tmp_path)
    add(store, "v1")
    store.set_alias("iris", "production", "v1")
    return store


@pytest.fixture
def follower(filled: ModelStore) -> Follower:
    return following(filled, [version("7"), version("7"), version("8")])


def following(store: ModelStore, answers: list[httpx.Response]) -> Follower:
    def take(found: ModelVersion) -> None:
        add(store, f"mlflow-{found.number}", description=described(found))

    coming = iter(answers)
    return Follower(server(lambda _: next(coming)), WANTED, store, "iris", "production", take, lambda _: None)


def test_a_follower_imports_each_version_once(filled: ModelStore, follower: Follower) -> None:
    assert follower.follow() == (
        "models:/iris@champion is version 7: imported and served as production of iris, mlflow-7 (was v1)"
    )
    assert follower.follow() is None
    assert filled.aliases("iris")["production"] == "mlflow-7"
    assert "imported and served" in str(follower.follow())
    # Another process, after a restart, finds what is there.
    again = following(filled, [version("8"), version("7")])
    assert again.follow() is None
    assert "version 7: served as production" in str(again.follow())


def test_a_version_that_fails_its_check_is_not_served(filled: ModelStore, follower: Follower) -> None:
    before = filled.aliases("iris")

    def refuse(_: str) -> None:
        raise MlflowUnusable("no")

    failing = Follower(**{**vars(follower), "check": refuse})
    with pytest.raises(MlflowUnusable, match="no"):
        failing.follow()
    assert filled.aliases("iris") == before


def test_another_model_of_the_same_number_is_not_taken_for_it(filled: ModelStore, follower: Follower) -> None:
    follower.follow()

    with pytest.raises(MlflowUnusable, match="iris mlflow-7 is in the store already"):
        following(filled, [version("7", creation_timestamp=5000)]).follow()


def test_pauses_grow_with_failures_up_to_a_bound() -> None:
    assert [pause(30, failures) for failures in (0, 1, 2, 10, 10**6)] == [30, 60, 120, 600, 600]
    assert pause(3600, 3) == 3600


def test_artifacts_in_other_storage_are_read_up_to_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "STORES", ("memory",))
    fsspec.filesystem("memory").pipe("/mlflow-test/a/MLmodel", b"flavors")
    read = folder_of(server(version()), "memory://mlflow-test/a")

    assert read("MLmodel", 7) == b"flavors"
    with pytest.raises(MlflowUnusable, match="more than 6 bytes"):
        read("MLmodel", 6)
    with pytest.raises((HeadraceError, OSError)):
        read("nothing", 6)
