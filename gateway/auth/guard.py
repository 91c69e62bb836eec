"""Access by API key: required where keys are configured, open where they are not."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer, SecurityScopes

from gateway.auth.api_keys import KeyRing, KeyScope
from gateway.problems import Problem, retry_after
from gateway.web.request_context import RequestContext, context_of

SCHEME = "api_key"
"""Name of the security scheme in OpenAPI."""

_CHALLENGE = 'Bearer realm="headrace"'


class Guard:
    """Admission of requests by their API key."""

    def __init__(self, keys: KeyRing | None) -> None:
        self._keys = keys
        self.required = keys is not None
        """True if a request needs a key."""

    def admit(self, context: RequestContext, headers: Mapping[bytes, bytes], needed: KeyScope) -> None:
        """Admit a request whose key has a scope, and note the key's owner and scopes in the request's context.

        Raises:
            Problem: 401 without a key or with an unknown one, 429 if the limit of the key is used up, 403 if it lacks
                the scope.
        """
        if self._keys is None:
            return
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer":
            raise Problem(401, "unauthorized", "send Authorization: Bearer <API key>", {"WWW-Authenticate": _CHALLENGE})
        key = self._keys.find(token.strip())
        if key is None:
            challenge = {"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'}
            raise Problem(401, "unauthorized", "this is no API key of this gateway", challenge)
        context.owner, context.key_scopes = key.grant.owner, key.grant.scopes
        seconds = key.bucket.take() if key.bucket is not None else 0.0
        if seconds:
            raise Problem(429, "rate_limited", "more requests than this key may make", retry_after(seconds))
        require(context, needed)

    def dependencies(self, needed: KeyScope) -> list[Any]:
        """Return dependencies that admit requests of FastAPI routes and show in OpenAPI; none if no key is required."""
        if not self.required:
            return []
        bearer = HTTPBearer(auto_error=False, scheme_name=SCHEME)

        async def admit(request: Request, scopes: SecurityScopes, _: Annotated[Any, Depends(bearer)] = None) -> None:
            self.admit(context_of(request.scope), dict(request.scope["headers"]), KeyScope(scopes.scopes[0]))

        return [Security(admit, scopes=[needed.value])]


def require(context: RequestContext, needed: KeyScope) -> None:
    """Check that the key of an admitted request has another scope, too.

    Raises:
        Problem: 403 if not.
    """
    if context.key_scopes is not None and needed not in context.key_scopes:
        challenge = {"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="{needed.value}"'}
        raise Problem(403, "forbidden", f"this API key lacks the scope {needed.value}", challenge)
