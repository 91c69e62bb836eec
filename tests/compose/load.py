"""Callers and submitters that ask while a test breaks something."""

import threading
from collections import Counter
from contextlib import AbstractContextManager
from types import TracebackType

import httpx

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
CLIENT_SECONDS = 30.0
CALL_PAUSE_SECONDS = 0.02
JOB_PAUSE_SECONDS = 0.1


class Load(AbstractContextManager["Load"]):
    """Two callers and a submitter, a thread each, that run while the context lasts."""

    def __init__(self, url: str) -> None:
        self.statuses: Counter[int] = Counter()
        """Status of the predictions -> their number; 0: the connection was refused or broke."""
        self.jobs: list[str] = []
        """Ids of the accepted jobs."""
        self._url = url
        self._end = threading.Event()
        self._threads = [threading.Thread(target=each) for each in (self._call, self._call, self._submit)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(2 * CLIENT_SECONDS)
            assert not thread.is_alive(), "a client hangs"

    def flows(self) -> bool:
        """Return True once there have been answers and jobs."""
        return self.statuses[200] > 20 and len(self.jobs) > 10

    def _call(self) -> None:
        with httpx.Client(base_url=self._url, timeout=CLIENT_SECONDS, trust_env=False) as http:
            while not self._end.wait(CALL_PAUSE_SECONDS):
                try:
                    self.statuses[http.post("/predict", json=FLOWER).status_code] += 1
                except httpx.TransportError:
                    self.statuses[0] += 1

    def _submit(self) -> None:
        with httpx.Client(base_url=self._url, timeout=CLIENT_SECONDS, trust_env=False) as http:
            while not self._end.wait(JOB_PAUSE_SECONDS):
                try:
                    answer = http.post("/jobs", json=FLOWER)
                except httpx.TransportError:
                    continue
                if answer.status_code == 202:
                    self.jobs.append(answer.json()["id"])
