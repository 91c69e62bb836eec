"""The model to be asked: its features and reference distributions, as the gateway tells them."""

from dataclasses import dataclass

import httpx
from pydantic import TypeAdapter, ValidationError

from headrace.models.manifest import Feature, Sample

_FEATURES = TypeAdapter(list[Feature])
_SAMPLES = TypeAdapter(list[Sample])


class NotServed(Exception):
    """Why there is nothing to send traffic to, in one line for a person."""


@dataclass(frozen=True)
class Model:
    """One model of a gateway; `prefix` comes before `/predict` and `/jobs`."""

    name: str
    version: str
    prefix: str
    features: list[Feature]
    samples: list[Sample]

    def sampled(self, position: int) -> list[str | int | float | bool | None]:
        """The values of the feature at that position in the samples."""
        return [sample.row[position] for sample in self.samples]


async def fetch(client: httpx.AsyncClient, name: str | None) -> Model:
    """The model of that name, or the default one.

    Raises:
        NotServed: if nobody listens, or it does not serve that model.
    """
    path = f"/models/{name}" if name else "/model-info"
    try:
        answer = await client.get(path)
    except httpx.TransportError:
        raise NotServed(
            f"nobody listens on {client.base_url}: start the stack with `make up` or `docker compose up --build`, "
            "or say where it is with --url"
        ) from None
    if answer.status_code == 404 and name:
        raise NotServed(f"{client.base_url} serves no model {name!r}; GET /models lists those that it does")
    if answer.status_code != 200:
        raise NotServed(f"{client.base_url}{path} answers {answer.status_code}: is that the gateway?")
    try:
        told = answer.json()
        features, samples = _FEATURES.validate_python(told["features"]), _SAMPLES.validate_python(told["samples"])
        return Model(told["name"], told["version"], f"/models/{name}" if name else "", features, samples)
    except (ValueError, KeyError, TypeError, ValidationError):
        raise NotServed(f"{client.base_url}{path} answers something else: is that the gateway?") from None
