"""Sends calls, follows jobs to their end, and counts what came of them."""

import time

import httpx

from demo.tally import Tally, outcome_of
from demo.traffic import BURST, JOB, WRONG, Call

JOB_WAIT_SECONDS = 10
JSON = {"Content-Type": "application/json"}
UNTYPICAL = {JOB, BURST, *WRONG}
"""Kinds whose latency is not what someone with a few rows waits for a prediction."""


def connect(url: str) -> httpx.AsyncClient:
    """A client for that gateway."""
    return httpx.AsyncClient(
        base_url=url,
        timeout=30,
        # How many calls are on their way is bounded elsewhere. Idle connections end here before the server closes them.
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=2),
        # A proxy for everything else can't reach this machine.
        trust_env=False,
    )


class Sender:
    """Sends through one client, counts into one tally."""

    def __init__(self, client: httpx.AsyncClient, tally: Tally) -> None:
        self._client = client
        self._tally = tally

    async def send(self, call: Call) -> int:
        """Send a call, and follow the job that it makes; its status, 0 if nothing was heard."""
        started = time.perf_counter()
        status, headers = 0, httpx.Headers()
        try:
            answer = await self._client.post(call.path, content=call.body, headers=JSON)
            status, headers = answer.status_code, answer.headers
        except httpx.TransportError:
            pass
        now = time.perf_counter()
        outcome = outcome_of(status) if status else "failed"
        self._tally.count(call.kind, outcome, now, now - started, typical=call.kind not in UNTYPICAL)
        if status == 202:
            self._tally.jobs_open += 1
            ended = await self._follow(headers["Location"], call.cancel)
            self._tally.jobs_open -= 1
            self._tally.jobs_ended[ended] += 1
        return status

    async def _follow(self, path: str, cancel: bool) -> str:
        """How a job ended, or `lost sight of`."""
        try:
            if cancel:
                # Too late is fine as well: then it has ended otherwise.
                await self._client.delete(path)
            while True:
                answer = await self._client.get(path, params={"wait": JOB_WAIT_SECONDS})
                if answer.status_code != 200:
                    return LOST
                status: str = answer.json()["status"]
                if status not in ("queued", "running"):
                    return status
        except httpx.TransportError:
            return LOST


LOST = "lost sight of"
"""The gateway did not say how a job ended; the job itself is safe."""
