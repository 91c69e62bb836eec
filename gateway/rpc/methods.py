"""Methods beside inference: the server, its models, and its health."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from gateway.auth.api_keys import KeyScope
from gateway.catalog.served_model import ServedModel
from gateway.errors import InvalidTensors, ModelUnavailable, UnknownModel
from gateway.fairness.written import WrittenDocuments
from gateway.oip.infer import InferStatistics
from gateway.oip.models import (
    all_statistics,
    model_config,
    model_head,
    model_statistics,
    model_tensors,
    repository_index,
    unloading_refused,
)
from gateway.problems import Problem
from gateway.rpc.messages import HEALTH, INFERENCE, message_class
from gateway.services import Services
from headrace.version import __version__

SERVICE = f"{INFERENCE}.GRPCInferenceService"
HEALTH_SERVICE = f"{HEALTH}.Health"

_METADATA, _CONFIG = "ModelMetadataResponse", "ModelConfigResponse"

EXTENSIONS = ["model_configuration", "model_repository", "statistics"]

Describe = Callable[[Any, str], Awaitable[dict[str, Any] | bytes]]
"""Returns the answer to a message of an owner of API keys: as JSON has it, or the message itself."""


class Method(NamedTuple):
    """A method that describes something."""

    package: str
    request: str
    response: str
    scope: KeyScope | None
    """Scope that the API key must have; None if no key is needed."""
    describe: Describe

    async def answer(self, content: bytes, owner: str) -> bytes:
        """Return the message of the answer to a message of an owner of API keys.

        Raises:
            Problem: if there is none.
            RequestError: if it can't be answered.
        """
        try:
            message = message_class(self.package, self.request).FromString(content)
        except DecodeError:
            raise InvalidTensors(f"the message is no {self.request}") from None
        answer = await self.describe(message, owner)
        return answer if isinstance(answer, bytes) else _encoded(answer, self.response, self.package)


def _encoded(content: dict[str, Any], name: str, package: str = INFERENCE) -> bytes:
    """Return a message with this name and content; that of thousands of tensors takes a while."""
    encoded: bytes = ParseDict(content, message_class(package, name)()).SerializeToString()
    return encoded


class _Models:
    """The methods about models; an empty name is that of the default one."""

    def __init__(self, services: Services, statistics: InferStatistics) -> None:
        self._catalog = services.catalog
        self._workers = services.workers
        self._statistics = statistics
        self._tensors = WrittenDocuments[ServedModel](lambda served: _encoded(model_tensors(served), _METADATA))
        self._configs = WrittenDocuments[ServedModel](
            lambda served: _encoded({"config": model_config(served)}, _CONFIG)
        )

    async def _found(self, name: str, version: str, owner: str) -> ServedModel:
        return await self._catalog.get(name or self._catalog.default_model, version or None, owner)

    async def ready(self, message: Any, owner: str) -> dict[str, Any]:
        """Tell whether workers take rows for a version; of one that is not there too, as Triton does."""
        try:
            served = await self._found(message.name, message.version, owner)
        except (UnknownModel, ModelUnavailable):
            return {"ready": False}
        return {"ready": not self._workers.refusals(served.label)}

    async def metadata(self, message: Any, owner: str) -> bytes:
        """Describe a version."""
        served = await self._found(message.name, message.version, owner)
        written = await self._tensors.of(served, owner)
        # One message behind another is a message with the fields of both.
        return _encoded(model_head(self._catalog, served.manifest), _METADATA) + written

    async def config(self, message: Any, owner: str) -> bytes:
        """Return the configuration of a version."""
        return await self._configs.of(await self._found(message.name, message.version, owner), owner)

    async def statistics(self, message: Any, owner: str) -> dict[str, Any]:
        """Return the statistics of a version, or of all that are in memory if the message names none."""
        if not (message.name or message.version):
            return all_statistics(self._catalog, self._statistics)
        served = await self._found(message.name, message.version, owner)
        return {"model_stats": [model_statistics(served, self._statistics)]}

    async def index(self, message: Any, _owner: str) -> dict[str, Any]:
        """Return all models, or those that workers take rows for."""
        return {"models": repository_index(self._catalog, self._workers, message.ready)}

    async def load(self, message: Any, owner: str) -> dict[str, Any]:
        """Find a model."""
        await self._found(message.model_name, "", owner)
        return {}

    async def unload(self, message: Any, owner: str) -> dict[str, Any]:
        """Find a model, and refuse to unload it."""
        await self._found(message.model_name, "", owner)
        raise unloading_refused()


def methods_of(services: Services, statistics: InferStatistics) -> dict[str, Method]:
    """Return the methods by path."""
    models = _Models(services, statistics)

    async def live(_message: Any, _owner: str) -> dict[str, Any]:
        return {"live": True}

    async def ready(_message: Any, _owner: str) -> dict[str, Any]:
        return {"ready": not await services.trouble()}

    async def server(_message: Any, _owner: str) -> dict[str, Any]:
        return {"name": "headrace", "version": __version__, "extensions": EXTENSIONS}

    async def health(message: Any, _owner: str) -> dict[str, Any]:
        if message.service not in ("", SERVICE):
            raise Problem(404, "not_found", "this server has no such service")
        return {"status": "NOT_SERVING" if await services.trouble() else "SERVING"}

    described: dict[str, tuple[KeyScope | None, Describe]] = {
        "ServerLive": (None, live),
        "ServerReady": (None, ready),
        "ServerMetadata": (KeyScope.READ, server),
        "ModelReady": (KeyScope.READ, models.ready),
        "ModelMetadata": (KeyScope.READ, models.metadata),
        "ModelConfig": (KeyScope.READ, models.config),
        "ModelStatistics": (KeyScope.READ, models.statistics),
        "RepositoryIndex": (KeyScope.READ, models.index),
        "RepositoryModelLoad": (KeyScope.READ, models.load),
        "RepositoryModelUnload": (KeyScope.READ, models.unload),
    }
    methods = {
        f"/{SERVICE}/{name}": Method(INFERENCE, f"{name}Request", f"{name}Response", scope, describe)
        for name, (scope, describe) in described.items()
    }
    methods[f"/{HEALTH_SERVICE}/Check"] = Method(HEALTH, "HealthCheckRequest", "HealthCheckResponse", None, health)
    return methods
