"""The model store on a real S3 protocol server."""

import os
import socket
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import fsspec
import httpx
import numpy as np
import pytest
from fsspec import url_to_fs
from moto.moto_server.werkzeug_app import create_backend_app
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from werkzeug.serving import make_server

from headrace import export
from headrace.errors import FileUnusable, StoreUnavailable
from headrace.models import remote_storage
from headrace.models.artifact_cache import ArtifactCache
from headrace.models.remote_storage import S3_CONFIGURATION
from headrace.models.storage import Storage, open_storage, read_document
from headrace.models.store import ModelStore
from tests.integration.conftest import NewStack
from tests.support.exposition import Scrape
from tests.support.processes import PATIENCE_SECONDS, wait_for
from tests.support.puppet import Act, Puppet
from tests.support.store_contract import StoreContract, add
from tests.unit.headrace.models.test_manifest import CONTENT

REPOSITORY = Path(__file__).parents[2]
BUCKET = "headrace-models"
REQUESTS: list[str] = []
"""Methods of the requests to the server."""

ANSWERING = Event()
"""Set while the server answers."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    # One request at a time: moto closes the file of an object that is replaced, although another request reads it.
    application = create_backend_app("s3")
    ANSWERING.set()

    def counted(environ: Any, start_response: Any) -> Any:
        REQUESTS.append(environ["REQUEST_METHOD"])
        ANSWERING.wait()
        return application(environ, start_response)

    server = make_server("127.0.0.1", 0, counted, threaded=False)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def s3_environment(endpoint: str) -> dict[str, str]:
    """Environment variables of a process that uses the store."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "tops3cret",
        "AWS_DEFAULT_REGION": "us-east-1",
        # Configuration of this machine must not have an effect.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
    }


@pytest.fixture(scope="module")
def bucket(endpoint: str) -> str:
    httpx.put(f"{endpoint}/{BUCKET}", trust_env=False).raise_for_status()
    return BUCKET


@pytest.fixture
def root(bucket: str, s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of an empty store."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{bucket}/{uuid.uuid4()}"


class TestS3(StoreContract):
    rounds = 25  # a move takes five requests

    @pytest.fixture
    def store(self, root: str, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
        # Making a client of S3 takes half a second: these tests share one.
        def shared(url: str, skip_instance_cache: bool, **options: Any) -> tuple[Any, str]:
            opened: tuple[Any, str] = url_to_fs(url, **options)
            return opened

        monkeypatch.setattr(fsspec, "url_to_fs", shared)
        return ModelStore(root)


def test_the_root_of_a_bucket_is_a_store_too(root: str, bucket: str) -> None:
    name = f"model-{uuid.uuid4()}"
    store = ModelStore(f"s3://{bucket}")

    add(store, "v1", name=name)

    assert name in store.names()
    assert store.location(name, "v1") == f"s3://{bucket}/{name}/v1"


def test_a_process_that_is_killed_in_an_upload_leaves_no_version(root: str, tmp_path: Path) -> None:
    program = """
        import os, sys
        from headrace.models.store import ModelStore
        from headrace.models.remote_storage import RemoteStorage
        from tests.support.store_contract import add

        create = RemoteStorage._create

        def die(self, path, source):
            if source.name == "manifest.json":
                os._exit(9)
            create(self, path, source)

        RemoteStorage._create = die
        add(ModelStore(sys.argv[1]), "v1")
    """
    command = [sys.executable, "-c", textwrap.dedent(program), root]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    assert subprocess.run(command, cwd=REPOSITORY, env=environment, check=False).returncode == 9

    store = ModelStore(root)
    assert open_storage(root).find() == ["iris/v1/model.pkl"]
    assert (store.names(), store.versions("iris")) == ([], [])
    with pytest.raises(FileExistsError, match="left half-written"):
        add(store, "v1")
    add(store, "v2")
    assert store.names() == ["iris"]


@pytest.mark.parametrize("content", [b"", b"abcde" * 100_000])
def test_a_file_is_read_by_one_request(root: str, content: bytes) -> None:
    storage = open_storage(root)
    storage.replace("iris/file", content)
    REQUESTS.clear()

    assert read_document(storage, "iris/file") == content
    assert b"".join(storage.parts("iris/file", 7)) == content[:7]
    assert read_document(storage, "iris/none") is None
    assert REQUESTS == ["GET"] * 3


def test_a_listing_has_all_pages(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(root)
    paths = [f"iris/{number}/a file+%41" for number in range(5)]
    for path in [*paths, "iris-2/file"]:
        storage.replace(path, b"")
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")
    REQUESTS.clear()

    assert storage.find("iris") == paths
    assert storage.find("iris/3") == [paths[3]]
    assert REQUESTS == ["GET"] * 4


def test_an_artifact_in_the_cache_is_not_fetched_again(root: str, tmp_path: Path) -> None:
    store = ModelStore(root, ArtifactCache(tmp_path / "cache", 1000))
    add(store, "v1")
    manifest = store.manifest("iris", "v1")
    assert store.artifact(manifest) == CONTENT
    open_storage(root).replace("iris/v1/model.pkl", b"evil")

    assert store.artifact(manifest) == CONTENT


def test_a_store_survives_a_fork(root: str) -> None:
    """Workers load models both before the fork and after it."""
    program = """
        import os, sys
        from headrace.models.store import ModelStore

        store = ModelStore(sys.argv[1])
        print(store.names(), flush=True)
        child = os.fork()
        if not child:
            print(store.names(), flush=True)
            os._exit(0)
        print(os.waitpid(child, 0)[1])
    """
    add(ModelStore(root), "v1")

    command = [sys.executable, "-c", textwrap.dedent(program), root]
    finished = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True, timeout=60)

    assert finished.stdout.splitlines() == ["['iris']", "['iris']", "0"]
    assert finished.stderr == ""


# --- errors


def calls(store: ModelStore) -> list[Any]:
    return [store.names, lambda: store.manifest("iris"), lambda: add(store, "v1")]


def assert_unavailable(store: ModelStore, reason: str) -> None:
    for call in calls(store):
        started = time.monotonic()
        with pytest.raises(StoreUnavailable, match=reason) as caught:
            call()
        assert time.monotonic() - started < PATIENCE_SECONDS
        assert "tops3cret" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_is_said_to_be_out_of_reach(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert_unavailable(ModelStore(root), "it can't be reached")


def test_a_server_that_does_not_answer_is_not_waited_for(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(S3_CONFIGURATION, "read_timeout", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert_unavailable(ModelStore(root), "it does not answer")


def test_a_bucket_that_is_not_there_is_named(root: str) -> None:
    assert_unavailable(ModelStore("s3://no-such-bucket/models"), "no-such-bucket/models: there is no such bucket")


def test_missing_credentials_are_named(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    # Otherwise the client asks the metadata address of cloud machines for credentials.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    assert_unavailable(ModelStore(root), "there are no credentials in the environment")


# --- a hostile server


@pytest.fixture
def hostile(root: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[Any], None]], Storage]]:
    """A maker of stores on a server whose answer to any request is what the given function writes."""
    servers: list[ThreadingHTTPServer] = []

    def make(answer: Callable[[Any], None]) -> Storage:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.close_connection = True
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer(self)

            do_PUT = do_GET

            def log_message(self, *_: object) -> None:
                pass

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        Thread(target=servers[0].serve_forever, args=[0.05], daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{servers[0].server_port}")
        return open_storage(root)

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


def begin(handler: Any, n_bytes: int) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(n_bytes))
    handler.end_headers()


def test_no_more_of_an_answer_is_read_than_was_asked_for(hostile: Any) -> None:
    def answer(handler: Any) -> None:
        begin(handler, 10**12)
        try:
            for _ in range(64):
                handler.wfile.write(bytes(10**6))
        except OSError:
            closed_early.set()

    closed_early = Event()

    with pytest.raises(FileUnusable, match="more than 1,000 bytes"):
        read_document(hostile(answer), "iris/v1/manifest.json", 1000)
    assert closed_early.wait(60)


@pytest.mark.parametrize(
    "call",
    [
        lambda storage: storage.find(),
        lambda storage: read_document(storage, "iris/v1/manifest.json"),
        lambda storage: storage.replace("iris/aliases/latest.json", b"{}"),
        lambda storage: storage.add_folder("iris/v1", lambda folder: (folder / "file").touch(), last="file"),
    ],
    ids=["find", "read", "replace", "add"],
)
def test_a_server_that_sends_byte_after_byte_is_not_waited_for(
    call: Callable[[Storage], object], hostile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(handler: Any) -> None:
        begin(handler, 1000)
        try:
            for _ in range(600):
                handler.wfile.write(b" ")
                if given_up.wait(0.1):
                    return
        except OSError:
            pass

    given_up = Event()
    monkeypatch.setattr(remote_storage, "CALL_SECONDS", 1)
    monkeypatch.setattr(remote_storage, "BYTES_PER_SECOND_MIN", 10**9)

    with pytest.raises(StoreUnavailable, match="it takes too long"):
        call(hostile(answer))
    given_up.set()


@pytest.mark.parametrize(
    ("keys", "seconds", "reason"), [(3, 60, "it lists more than 10 files"), (0, 1, "it takes too long")]
)
def test_a_listing_without_an_end_is_refused(
    keys: int, seconds: int, reason: str, hostile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(handler: Any) -> None:
        pages.append(handler.path)
        files = "".join(f"<Contents><Key>{len(pages)}/{n}</Key><Size>1</Size></Contents>" for n in range(keys))
        more = f"<IsTruncated>{str(len(pages) < 5000).lower()}</IsTruncated>"
        content = f"<ListBucketResult>{more}<NextContinuationToken>a</NextContinuationToken>{files}</ListBucketResult>"
        begin(handler, len(content))
        handler.wfile.write(content.encode())

    pages: list[str] = []
    monkeypatch.setattr(remote_storage, "CALL_SECONDS", seconds)
    monkeypatch.setattr(remote_storage, "LISTED_PATHS_MAX", 10)

    with pytest.raises(StoreUnavailable, match=reason):
        hostile(answer).find()


# --- the whole stack


def test_gateway_and_worker_read_the_bucket_that_training_wrote(
    root: str, s3_environment: dict[str, str], new_stack: NewStack, tmp_path: Path
) -> None:
    iris = load_iris()
    names = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    estimator = LogisticRegression(max_iter=1000).fit(iris.data, iris.target_names[iris.target])
    store = ModelStore(root)
    manifest = export(estimator, iris.data, store=store, name="iris", version="v1", feature_names=names).manifest
    cache = tmp_path / "cache"

    stack = new_stack(root, **s3_environment, MODEL_CACHE_DIR=str(cache)).start()

    for sample in manifest.samples:
        row = dict(zip(names, sample.row, strict=True))
        answer = stack.predict(row)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["prediction"], answer.json()["version"]) == (sample.prediction, "v1")
    assert [path.name for path in cache.iterdir()] == [manifest.artifact.sha256]

    export(estimator, iris.data, store=store, name="iris", version="v2", feature_names=names)
    wait_for("the new version is served", lambda: stack.predict(row).json()["version"] == "v2")


def test_a_child_that_dies_while_the_store_is_silent_stops_no_worker(
    root: str, s3_environment: dict[str, str], new_stack: NewStack
) -> None:
    rows = np.array([[1.0, Act.ANSWER], [-1.0, Act.ANSWER]] * 10)
    puppet = Puppet().fit(rows, np.where(rows[:, 0] >= 0, "high", "low"))
    names, modules = ["value", "act"], ["tests.support.puppet"]
    export(
        puppet, rows, store=ModelStore(root), name="puppet", version="v1", feature_names=names, extra_modules=modules
    )
    stack = new_stack(root, **s3_environment, DEFAULT_MODEL="puppet").start()

    ANSWERING.clear()
    try:
        answers = [stack.predict({"value": 1, "act": act}) for act in (Act.DIE, Act.ANSWER)]
    finally:
        ANSWERING.set()

    assert [each.status_code for each in answers] == [503, 200]
    assert answers[0].json()["type"].endswith("worker_lost")
    assert Scrape(f"http://127.0.0.1:{stack.metrics_ports[0]}/metrics").total("inference_errors_total") == 1
