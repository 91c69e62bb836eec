"""Settings of the gateway."""

from pathlib import Path

from pydantic import Field, model_validator

from shared.settings import CommonSettings


class GatewaySettings(CommonSettings):
    """Address, limits and deadlines."""

    gateway_host: str = "127.0.0.1"
    """Address to listen on."""

    gateway_port: int = Field(default=8000, ge=1, le=65535)
    """Port to listen on."""

    gateway_processes: int = Field(default=1, ge=1, le=64)
    """Processes that share the port, for machines with more cores; limits of waiting rows hold for each."""

    predict_deadline_seconds: float = Field(default=5.0, gt=0)
    """How long `/predict` waits when the caller does not say; past it the rows are never computed."""

    wait_max_seconds: float = Field(default=60.0, gt=0)
    """Longest wait that a caller may ask for with `Prefer: wait` or `?wait=`."""

    body_max_bytes: int = Field(default=4_000_000, gt=0)
    """Larger request bodies get 413."""

    rows_max: int = Field(default=10_000, ge=1)
    """Rows in one request at most."""

    batch_rows_max: int = Field(default=1024, ge=1)
    """Rows in one batch at most; a larger request leaves in chunks."""

    batch_compute_target_seconds: float = Field(default=0.02, gt=0)
    """Compute time that a batch should not exceed, as learned from earlier ones, so that none holds up the lane."""

    waiting_rows_max: int = Field(default=50_000, ge=1)
    """Interactive rows that wait for a worker at most; beyond it `/predict` gets 503."""

    jobs_open_max: int = Field(default=100_000, ge=1)
    """Jobs without an outcome at most; beyond it `/jobs` gets 503."""

    job_expiry_seconds: float = Field(default=86_400.0, gt=0)
    """A job that was not started by then ends as `expired`."""

    job_retention_seconds: int = Field(default=86_400, ge=1)
    """How long an ended job, and an idempotency key, can be looked up; after that its id is unknown (404)."""

    job_max_attempts: int = Field(default=3, ge=1)
    """A job whose process died this many times ends as `failed` with `worker_lost`."""

    job_check_seconds: float = Field(default=10.0, gt=0)
    """How long after its last event a job is looked at by the reconciler."""

    api_keys_file: Path | None = None
    """The file of API keys, with lines as `headrace new-key` makes them; without it no key is asked for."""

    metrics_open: bool = False
    """Whether `/metrics` asks for no key even where there are API keys."""

    docs_enabled: bool | None = None
    """Whether `/docs` and `/openapi.json` are served, to everybody; by default only where there are no API keys."""

    head_receive_seconds: float = Field(default=10.0, gt=0)
    """A connection is cut off if a request's line and headers take longer to arrive, or a new one says nothing."""

    body_receive_seconds: float = Field(default=30.0, gt=0)
    """The same for a request's body."""

    answer_send_seconds: float = Field(default=30.0, gt=0)
    """The same for a caller who does not take its answer."""

    connections_max: int = Field(default=16_000, ge=1)
    """Connections of a gateway process at most; one more gets 503."""

    bodies_max_bytes: int = Field(default=100_000_000, gt=0)
    """Bytes of request bodies that arrive or wait for an answer, in a gateway process at most; beyond it: 503."""

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

    @property
    def serves_docs(self) -> bool:
        """Whether `/docs` and `/openapi.json` exist. The document holds sample rows of the model."""
        return self.api_keys_file is None if self.docs_enabled is None else self.docs_enabled
