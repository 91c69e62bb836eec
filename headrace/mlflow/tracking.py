"""The REST API of an MLflow tracking server: the registry of models, and the artifacts that the server hands on."""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from headrace.errors import MlflowUnusable
from headrace.mlflow.limits import DOCUMENT_MAX_BYTES, joined
from headrace.mlflow.reference import Registered

API = "api/2.0/mlflow"
ARTIFACTS = "api/2.0/mlflow-artifacts/artifacts"

READ_SECONDS = 30.0
"""Longest silence of a server."""

MESSAGE_CHARACTERS = 200
"""Characters of a server's own message that are shown."""


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model."""

    name: str
    number: str
    created_at: str
    """Time in UTC, ISO 8601: a model that was deleted and registered again has the same numbers at other times."""

    def __str__(self) -> str:
        return str(Registered(self.name, self.number))


class TrackingServer:
    """A tracking server, with the credentials that MLflow's own tools take from the environment.

    Redirects are not followed, so that no other host gets the credentials or is asked in the place of this one.
    """

    def __init__(
        self,
        address: str | None = None,
        environment: Mapping[str, str] | None = None,
        seconds: float = 300.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Name a server without calling it.

        Args:
            address: its URL; by default that of MLFLOW_TRACKING_URI.
            environment: variables with the credentials; by default those of the process.
            seconds: the time that one answer may take, with its body.
            transport: the transport of httpx, for tests.

        Raises:
            MlflowUnusable: if there is no address, or it is not one of HTTP.
        """
        variables = os.environ if environment is None else environment
        given = address or variables.get("MLFLOW_TRACKING_URI", "")
        if not given.startswith(("http://", "https://")):
            raise MlflowUnusable(
                f"which tracking server? MLFLOW_TRACKING_URI or --tracking-uri is {given!r}, and not http:// or https://"
            )
        try:
            url = httpx.URL(given.rstrip("/") + "/")
        except httpx.InvalidURL as error:
            raise MlflowUnusable(f"the address of the tracking server can't be used: {error}") from None
        user, password = variables.get("MLFLOW_TRACKING_USERNAME"), variables.get("MLFLOW_TRACKING_PASSWORD")
        token = variables.get("MLFLOW_TRACKING_TOKEN")
        self.address = str(url.copy_with(userinfo=b"")).rstrip("/")
        self.host = url.netloc.decode()
        self._seconds = seconds
        self._client = httpx.Client(
            base_url=url,
            auth=(user, password or "") if user else None,
            headers={
                # A compressed body may unpack to any size.
                "Accept-Encoding": "identity",
                **({"Authorization": f"Bearer {token}"} if token and not user else {}),
            },
            timeout=min(READ_SECONDS, seconds),
            follow_redirects=False,
            # Imports run in forked processes: none shares a connection, whose state in TLS would differ, with this one.
            limits=httpx.Limits(max_keepalive_connections=0),
            transport=transport,
        )

    def version(self, wanted: Registered) -> ModelVersion:
        """Return the version of a registered model that a name or an alias stands for.

        Raises:
            MlflowUnusable: if there is none, or the server does not answer as MLflow does.
        """
        if wanted.alias:
            path, query = "registered-models/alias", {"name": wanted.name, "alias": wanted.alias}
        else:
            path, query = "model-versions/get", {"name": wanted.name, "version": str(wanted.version)}
        answer = self._get(path, query)
        found: Any = answer.get("model_version")
        try:
            number = str(int(found["version"]))
            created = datetime.fromtimestamp(int(found["creation_timestamp"]) / 1000, timezone.utc)
        except (KeyError, TypeError, ValueError, OverflowError, OSError):
            raise MlflowUnusable(f"{self.address}: its answer for {wanted} names no version") from None
        if len(number) > 18 or int(number) < 1 or (wanted.version and int(wanted.version) != int(number)):
            raise MlflowUnusable(f"{self.address}: its answer for {wanted} is version {number[:18]}")
        return ModelVersion(wanted.name, number, created.isoformat(timespec="milliseconds"))

    def location(self, version: ModelVersion) -> str:
        """Return the URI of a version's folder; errors as in `version`."""
        answer = self._get("model-versions/get-download-uri", {"name": version.name, "version": version.number})
        location = answer.get("artifact_uri")
        if not isinstance(location, str):
            raise MlflowUnusable(f"{self.address}: its answer for {version} names no place of artifacts")
        return location

    def artifact(self, path: str, max_bytes: int) -> bytes:
        """Return the content of a file that the server hands on; errors as in `version`."""
        return self._content(f"{ARTIFACTS}/{quote(path)}", {}, max_bytes)

    def _get(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        content = self._content(f"{API}/{path}", query, DOCUMENT_MAX_BYTES)
        try:
            answer = orjson.loads(content)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise MlflowUnusable(f"{self.address}: its answer to {path} is no JSON object, so it is no MLflow server")
        return answer

    def _content(self, path: str, query: dict[str, str], max_bytes: int) -> bytes:
        where = f"{self.address}/{path}"
        try:
            with self._client.stream("GET", path, params=query) as response:
                if response.is_redirect:
                    raise MlflowUnusable(
                        f"{where}: it redirects to another address, which is not followed: name the address itself in "
                        "MLFLOW_TRACKING_URI"
                    )
                failed = not response.is_success
                content = joined(self._in_time(response, where), DOCUMENT_MAX_BYTES if failed else max_bytes, where)
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            raise MlflowUnusable(f"{where}: {type(error).__name__}: {error}") from None
        if failed:
            raise MlflowUnusable(f"{where}: it answers {response.status_code}{_message(content)}")
        return content

    def _in_time(self, response: httpx.Response, where: str) -> Iterator[bytes]:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise MlflowUnusable(f"{where}: its answer is compressed, which was not asked for")
        end = time.monotonic() + self._seconds
        for part in response.iter_bytes():
            yield part
            if time.monotonic() > end:
                raise MlflowUnusable(f"{where}: its answer takes longer than {self._seconds:g} s")


def _message(content: bytes) -> str:
    """Return the message in an error of MLflow, to be appended to a sentence; empty if it has none."""
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        return ""
    message = answer.get("message") if isinstance(answer, dict) else None
    return f": {' '.join(message.split())[:MESSAGE_CHARACTERS]}" if isinstance(message, str) else ""
