"""The submitter submits each job until it is accepted, once, and notices what it is there to notice."""

import threading
import uuid
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.chaos.ledger import PROBLEM, Lateness
from tests.chaos.submitter import Submitter

JOBS = 300
Answer = Callable[[str, int], tuple[int, dict[str, str]] | None]
"""Of a key and how often it came; None closes the connection."""


class _Listener(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that the submitter has left."""


class Server:
    """Answers submissions as it is told to."""

    def __init__(self, answer: Answer) -> None:
        self.times: dict[str, int] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                key = self.headers["Idempotency-Key"]
                self.rfile.read(int(self.headers["Content-Length"]))
                times = server.times[key] = server.times.get(key, 0) + 1
                said = answer(key, times)
                if said is None:
                    self.close_connection = True
                    return
                status, headers = said
                self.send_response(status)
                for name, value in {"content-length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = _Listener(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def accepted(key: str, times: int, name: str = "") -> tuple[int, dict[str, str]]:
    job_id = uuid.uuid5(uuid.NAMESPACE_URL, name or key)
    return 202, {"location": f"/jobs/{job_id}", **({"idempotent-replayed": "true"} if times > 1 else {})}


@pytest.fixture
def submit() -> Iterator[Callable[[Answer], tuple[Submitter, Server]]]:
    lateness = Lateness()
    made: list[tuple[Submitter, Server]] = []

    def run(answer: Answer) -> tuple[Submitter, Server]:
        server = Server(answer)
        submitter = Submitter("127.0.0.1", server.port, JOBS, b"%d".__mod__, lateness)
        made.append((submitter, server))
        submitter.submit(range(JOBS))
        return submitter, server

    yield run
    for submitter, server in made:
        submitter.close()
        server.close()
    lateness.close()


Submit = Callable[[Answer], tuple[Submitter, Server]]


def test_what_is_refused_or_broken_off_is_sent_again_until_it_is_accepted(submit: Submit) -> None:
    def answer(key: str, times: int) -> tuple[int, dict[str, str]] | None:
        number = int(key.split()[1])
        if times == 1 and number % 10 == 1:
            return 503, {"content-type": PROBLEM, "retry-after": "1"}
        return None if times == 1 and number % 10 == 2 else accepted(key, times)

    submitter, server = submit(answer)

    assert submitter.violations == []
    assert (submitter.accepted, submitter.refused, submitter.broken) == (JOBS, JOBS // 10, JOBS // 10)
    assert set(submitter.job_ids()) == {str(uuid.uuid5(uuid.NAMESPACE_URL, key)) for key in server.times}
    # Some are submitted once more although they were accepted.
    assert submitter.answers_202 > JOBS


def test_a_key_that_makes_two_jobs(submit: Submit) -> None:
    submitter, _ = submit(lambda key, times: accepted(key, times, f"{key} {times}"))

    assert {violation[:2] for violation in submitter.violations} == {"I1"}


@pytest.mark.parametrize(
    ("status", "headers"),
    [(500, {"content-type": PROBLEM}), (503, {"content-type": PROBLEM}), (503, {"retry-after": "1"}), (404, {})],
)
def test_an_answer_that_breaks_a_promise(submit: Submit, status: int, headers: dict[str, str]) -> None:
    submitter, _ = submit(
        lambda key, times: (status, headers) if times == 1 and key.endswith(" 7") else accepted(key, times)
    )

    assert [violation[:2] for violation in submitter.violations] == ["I5"]
    assert submitter.accepted == JOBS
