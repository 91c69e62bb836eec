"""Methods beside inference: the server, its models, and its health."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from gateway.auth.api_keys import KeyScope
from gateway.errors import InvalidTensors
from gateway.oip.models import model_metadata, repository_index
from gateway.problems import Problem
from gateway.rpc.messages import HEALTH, INFERENCE, message_class
from gateway.services import Services
from gateway.web.request_context import RequestContext
from headrace.version import __version__

SERVICE = f"{INFERENCE}.GRPCInferenceService"
HEALTH_SERVICE = f"{HEALTH}.Health"

Describe = Callable[[Any, str], Awaitable[dict[str, Any]]]
"""Returns the answer to a message of an owner of API keys, as JSON has it."""


class Method(NamedTuple):
    """A method that describes something."""

    package: str
    request: str
    response: str
    scope: KeyScope | None
    """Scope that the API key must have; None if no key is needed."""
    describe: Describe

    async def answer(
        self, services: Services, content: bytes, headers: dict[bytes, bytes], context: RequestContext
    ) -> bytes:
        """Return the message of the answer to a message.

        Raises:
            Problem: if the call is not admitted.
            RequestError: if it can't be answered.
        """
        if self.scope is not None:
            services.guard.admit(context, headers, self.scope)
        try:
            message = message_class(self.package, self.request).FromString(content)
        except DecodeError:
            raise InvalidTensors(f"the message is no {self.request}") from None
        answer = ParseDict(await self.describe(message, context.owner), message_class(self.package, self.response)())
        encoded: bytes = answer.SerializeToString()
        return encoded


def methods_of(services: Services) -> dict[str, Method]:
    """Return the methods by path."""
    catalog = services.catalog

    async def live(_message: Any, _owner: str) -> dict[str, Any]:
        return {"live": True}

    async def ready(_message: Any, _owner: str) -> dict[str, Any]:
        return {"ready": not await services.trouble()}

    async def server(_message: Any, _owner: str) -> dict[str, Any]:
        return {"name": "headrace", "version": __version__, "extensions": ["model_repository"]}

    async def model_ready(message: Any, owner: str) -> dict[str, Any]:
        served = await catalog.get(message.name or catalog.default_model, message.version or None, owner)
        return {"ready": not services.workers.refusals(served.label)}

    async def model(message: Any, owner: str) -> dict[str, Any]:
        served = await catalog.get(message.name or catalog.default_model, message.version or None, owner)
        return model_metadata(catalog, served.manifest)

    async def index(_message: Any, _owner: str) -> dict[str, Any]:
        return {"models": repository_index(catalog)}

    async def health(message: Any, _owner: str) -> dict[str, Any]:
        if message.service not in ("", SERVICE):
            raise Problem(404, "not_found", "this server has no such service")
        return {"status": "NOT_SERVING" if await services.trouble() else "SERVING"}

    described: dict[str, tuple[KeyScope | None, Describe]] = {
        "ServerLive": (None, live),
        "ServerReady": (None, ready),
        "ServerMetadata": (KeyScope.READ, server),
        "ModelReady": (KeyScope.READ, model_ready),
        "ModelMetadata": (KeyScope.READ, model),
        "RepositoryIndex": (KeyScope.READ, index),
    }
    methods = {
        f"/{SERVICE}/{name}": Method(INFERENCE, f"{name}Request", f"{name}Response", scope, describe)
        for name, (scope, describe) in described.items()
    }
    methods[f"/{HEALTH_SERVICE}/Check"] = Method(HEALTH, "HealthCheckRequest", "HealthCheckResponse", None, health)
    return methods
