"""Settings of the gateway."""

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from pydantic import Field, field_validator, model_validator

from shared.settings import CommonSettings

PREFIX_PATTERN = r"(/\.{0,2}[A-Za-z0-9_~-][A-Za-z0-9._~-]*|/\.{3}[A-Za-z0-9._~-]*)*"
"""Form of a path prefix: without the segments `.` and `..`, which browsers take for other paths."""
PREFIX_MAX_CHARACTERS = 200

_HOST = r"([a-z0-9.-]+|\[[0-9a-f:.]+\])"
_ORIGIN = re.compile(rf"\*|[a-z][a-z0-9+.-]*://{_HOST}(:[0-9]{{1,5}})?")
"""Form of an origin as browsers send it: scheme, host in lower case, and the port if it is not the scheme's own."""


class GatewaySettings(CommonSettings):
    """Address, limits and deadlines of the gateway."""

    gateway_host: str = "127.0.0.1"
    """Address to listen on."""

    gateway_port: int = Field(default=8000, ge=1, le=65535)
    """Port to listen on."""

    gateway_processes: int = Field(default=1, ge=1, le=64)
    """Processes that share the port, for machines with more cores; limits of waiting rows hold for each process."""

    workers: int = Field(default=1, ge=1)
    """Workers that `make up` and Compose start; while fewer live, the alert HeadraceWorkersMissing fires."""

    predict_deadline_seconds: float = Field(default=5.0, gt=0)
    """Deadline of a `/predict` request that names none; rows past their deadline are never computed."""

    wait_max_seconds: float = Field(default=60.0, gt=0)
    """Longest wait that a caller may ask for with `Prefer: wait`, `?wait=`, `?deadline=` or `timeout`."""

    body_max_bytes: int = Field(default=4_000_000, gt=0)
    """Largest request body; a larger one gets 413."""

    rows_max: int = Field(default=10_000, ge=1, le=2**31 - 1)
    """Most rows in one request."""

    answer_max_bytes: int = Field(default=16_000_000, gt=0)
    """Largest answer to the rows of one request; with many classes or long labels fewer than `ROWS_MAX` are taken."""

    text_max_characters: int | None = Field(default=None, ge=1)
    """Longest text in a row; by default, of each feature: ten times the longest in training, and at least 10,000."""

    batch_rows_max: int = Field(default=8192, ge=1)
    """Most rows in one batch, 1,024 in the first; no more than make a reply of 1 MB. Larger requests go in chunks."""

    batch_compute_target_seconds: float = Field(default=0.02, gt=0)
    """Compute time that a batch should not exceed, estimated from earlier batches, so that none holds up the lane."""

    waiting_rows_max: int = Field(default=50_000, ge=1)
    """Most interactive rows that may wait for a worker, of one owner half; beyond it `/predict` gets 503."""

    jobs_open_max: int = Field(default=100_000, ge=1)
    """Most jobs without an outcome; beyond it `/jobs` gets 503."""

    owner_jobs_open_max: int | None = Field(default=None, ge=1)
    """Most jobs without an outcome of one owner of API keys; beyond it `/jobs` gets 429."""

    owner_job_bytes_max: int | None = Field(default=None, gt=0)
    """Bytes that the jobs of one owner of API keys may take in Redis, with outcomes to come; beyond them: 429."""

    job_expiry_seconds: float = Field(default=86_400.0, gt=0)
    """Age at which a job that has not started ends as `expired`."""

    job_retention_seconds: int = Field(default=86_400, ge=1)
    """Time for which an ended job and an idempotency key are kept; after that the id is unknown (404)."""

    job_results_max_bytes: int | None = Field(default=None, gt=0)
    """Bytes of results that Redis keeps, from 1 kB each; beyond them the oldest go: 410 `result_expired`."""

    job_max_attempts: int = Field(default=3, ge=1)
    """Attempts of a job; if the process dies in each, the job ends as `failed` with `worker_lost`."""

    job_check_seconds: float = Field(default=10.0, gt=0)
    """Time after its last event at which the reconciler checks a job."""

    job_replicas_ack: int = Field(default=0, ge=0, le=10)
    """Replicas of Redis that must have a job before its 202, within 0.5 s; otherwise 503 `not_replicated`."""

    api_keys_file: Path | None = None
    """File of API keys, with lines as `headrace new-key` makes them; without it no request needs a key."""

    metrics_open: bool = False
    """Serve `/metrics` and `/scaling` without an API key even where there are keys."""

    docs_enabled: bool | None = None
    """Serve `/docs` and `/openapi.json` to everyone, other documents to keys; by default only without API keys."""

    root_path: str = Field(default="", pattern=f"^{PREFIX_PATTERN}$", max_length=PREFIX_MAX_CHARACTERS)
    """Path prefix under which a proxy publishes the gateway, such as `/ml`; the proxy may remove it or not."""

    trusted_proxies: str = ""
    """Addresses or networks of proxies, with commas, whose `X-Forwarded-Prefix` is obeyed; by default nobody's."""

    cors_origins: str = ""
    """Origins whose pages may call the gateway, with commas, such as `https://app.example.com`; or `*` for all."""

    head_receive_seconds: float = Field(default=10.0, gt=0)
    """Longest time for a request's line and headers to arrive, and for a new connection to begin one."""

    body_receive_seconds: float = Field(default=30.0, gt=0)
    """Longest time for a request's body to arrive."""

    answer_send_seconds: float = Field(default=30.0, gt=0)
    """Longest time for a caller to read its answer."""

    gateway_keep_alive_seconds: int = Field(default=75, ge=1)
    """Time for which an idle connection stays open; longer than that of the proxy in front, which is often 60 s."""

    connections_max: int = Field(default=16_000, ge=1)
    """Most connections of a gateway process; one more gets 503."""

    bodies_max_bytes: int = Field(default=100_000_000, gt=0)
    """Most bytes of bodies and rows that arrive or wait for an answer in a process, of one owner half; then 503."""

    answers_max_bytes: int = Field(default=64_000_000, gt=0)
    """Most bytes of answers above 64 KiB that are computed or sent in a process, of one owner half; then 503."""

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, networks: str) -> str:
        for network in _listed(networks):
            ip_network(network)
        return networks

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: str) -> str:
        if wrong := [origin for origin in _listed(origins) if not _ORIGIN.fullmatch(origin)]:
            raise ValueError(f"{wrong[0]} is no origin: write it as browsers send it, such as https://app.example.com")
        return origins

    @model_validator(mode="after")
    def _deadlines_agree(self) -> "GatewaySettings":
        if self.predict_deadline_seconds > self.wait_max_seconds:
            raise ValueError("PREDICT_DEADLINE_SECONDS is greater than WAIT_MAX_SECONDS")
        return self

    @model_validator(mode="after")
    def _bodies_fit(self) -> "GatewaySettings":
        if self.body_max_bytes > self.bodies_max_bytes:
            raise ValueError("BODY_MAX_BYTES is greater than BODIES_MAX_BYTES")
        return self

    @model_validator(mode="after")
    def _answers_fit(self) -> "GatewaySettings":
        if self.answer_max_bytes > self.answers_max_bytes:
            raise ValueError("ANSWER_MAX_BYTES is greater than ANSWERS_MAX_BYTES")
        return self

    @property
    def origins(self) -> list[str]:
        """Origins whose pages may call the gateway."""
        return _listed(self.cors_origins)

    @property
    def proxies(self) -> list[IPv4Network | IPv6Network]:
        """Networks of trusted proxies."""
        return [ip_network(network) for network in _listed(self.trusted_proxies)]

    @property
    def owner_open_max(self) -> int:
        """Most jobs without an outcome of one owner; by default half of all, so that others have room too."""
        return self.owner_jobs_open_max or (self.jobs_open_max + 1) // 2

    @property
    def serves_docs(self) -> bool:
        """True if `/docs` and `/openapi.json` exist. The document contains sample rows of the model."""
        return self.api_keys_file is None if self.docs_enabled is None else self.docs_enabled


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
