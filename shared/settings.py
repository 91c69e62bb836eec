"""Settings that every process reads from its environment; a wrong value stops the process and names the field."""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.broker_url import normalized

if TYPE_CHECKING:
    from headrace.models.signing import PublicKeys


class CommonSettings(BaseSettings):
    """Settings of the broker, the model store, the log and the limits of a batch."""

    model_config = SettingsConfigDict(
        use_attribute_docstrings=True,
        frozen=True,
        hide_input_in_errors=True,
        # Compose passes on each variable, empty where nobody has set it.
        env_ignore_empty=True,
    )

    redis_url: str = "redis://127.0.0.1:6379/0"
    """The broker: `redis://`, `rediss://` with TLS, `sentinel://` or `sentinels://`. A database per deployment."""

    model_store: str = Field(default="models", pattern=r"\S")
    """The model store: a directory or a URL (`file://`, `s3://bucket/prefix`)."""

    default_model: str = "iris"
    """The model that `/predict` and `/jobs` use; its alias `latest` says which version."""

    model_public_key: Path | None = None
    """PEM file of Ed25519 public keys; versions signed by none of them are refused. Without it none are checked."""

    log_level: str = Field(default="INFO", pattern=r"^(DEBUG|INFO|WARNING|ERROR)$")
    """Least severe level that is logged."""

    log_format: Literal["console", "json"] = "console"
    """Format of a log line: `console` for people, `json` for machines, one object per line."""

    tracing: bool = False
    """Export a span tree per request by OTLP over HTTP; the standard `OTEL_*` variables say where to and how many."""

    task_soft_time_limit_seconds: float = Field(default=25.0, gt=0)
    """Seconds after which a running batch gets an exception; it ends as `time_limit`."""

    task_time_limit_seconds: float = Field(default=30.0, gt=0)
    """Seconds after which the pool child that runs a batch is killed."""

    @field_validator("tracing")
    @classmethod
    def _packages_are_there(cls, tracing: bool) -> bool:
        if tracing and not _has_exporter():
            raise ValueError(
                "it needs the packages opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http, "
                "which `make up` installs in a clone of the project"
            )
        return tracing

    @field_validator("redis_url")
    @classmethod
    def _read_alike(cls, url: str) -> str:
        """Return the URL in the form that all processes read alike."""
        return normalized(url)

    @model_validator(mode="after")
    def _soft_limit_comes_first(self) -> "CommonSettings":
        if self.task_soft_time_limit_seconds >= self.task_time_limit_seconds:
            raise ValueError(
                "TASK_SOFT_TIME_LIMIT_SECONDS must be below TASK_TIME_LIMIT_SECONDS: "
                "the batch could not be answered before its process is killed"
            )
        return self

    @property
    def signers(self) -> "PublicKeys | None":
        """The public keys, read anew; None if versions need no signature.

        Raises:
            ModelError: if the file of public keys can't be used.
        """
        if self.model_public_key is None:
            return None
        # Imported only where signatures are asked for, because OpenSSL is large.
        from headrace.models.signing import PublicKeys

        return PublicKeys.read(self.model_public_key)

    @property
    def visibility_timeout_seconds(self) -> float:
        """Seconds after which the broker hands an unacknowledged entry to another worker.

        Just above the hard limit: less would run entries twice, more would delay the recovery after a killed worker.
        """
        return self.task_time_limit_seconds + 10.0

    @property
    def lease_seconds(self) -> float:
        """Seconds for which a started job belongs to its worker; above the hard limit, which no attempt outlives."""
        return self.task_time_limit_seconds + 5.0


def _has_exporter() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


SettingsT = TypeVar("SettingsT", bound=CommonSettings)


def load_settings(settings_class: type[SettingsT]) -> SettingsT:
    """Read the settings, or end the process with one line per wrong field.

    Raises:
        SystemExit: with code 2 if a value is not acceptable. The value is not printed, since it may be a secret.
    """
    try:
        return settings_class()
    except ValidationError as error:
        for item in error.errors(include_url=False, include_input=False):
            name = "_".join(str(part) for part in item["loc"]).upper() or "settings"
            message = item["msg"].removeprefix("Value error, ")
            print(f"headrace: {name}: {message}", file=sys.stderr)  # noqa: T201 - logging is not set up yet
        raise SystemExit(2) from None
