"""The model that a gateway serves, and rows drawn from its reference distributions."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import pstdev
from typing import Any

import httpx
from pydantic import TypeAdapter, ValidationError

from headrace.models.fields import Scalar
from headrace.models.made_up import Distribution, Interval, Values
from headrace.models.manifest import Feature, Sample

Row = dict[str, Any]

RAREST_CHANCE = 0.5
"""Probability that a fully drifted text or boolean is the value that was rarest in training."""

DEVIATION_DRAWS = 1_000
UNKNOWN_TEXT = "none of the known"

_FEATURES = TypeAdapter(list[Feature])
_SAMPLES = TypeAdapter(list[Sample])


class NotServed(Exception):
    """The reason why there is nothing to send traffic to, in one line for a person."""


@dataclass(frozen=True)
class Model:
    """One model of a gateway; `prefix` comes before `/predict` and `/jobs`."""

    name: str
    version: str
    prefix: str
    features: list[Feature]
    samples: list[Sample]


async def fetch(client: httpx.AsyncClient, name: str | None) -> Model:
    """Ask the gateway for the model of that name, or for the default one.

    Raises:
        NotServed: if nothing listens, or it does not serve that model.
    """
    path = f"/models/{name}" if name else "/model-info"
    try:
        answer = await client.get(path)
    except httpx.TransportError:
        raise NotServed(
            f"nothing listens on {client.base_url}: start the stack with `make up` or `docker compose up --build`, "
            "or say where it is with --url"
        ) from None
    if answer.status_code == 404 and name:
        raise NotServed(f"{client.base_url} serves no model {name!r}; GET /models lists those that it does")
    if answer.status_code != 200:
        raise NotServed(f"{client.base_url}{path} answers {answer.status_code}: is that the gateway?")
    try:
        info = answer.json()
        features, samples = _FEATURES.validate_python(info["features"]), _SAMPLES.validate_python(info["samples"])
        return Model(info["name"], info["version"], f"/models/{name}" if name else "", features, samples)
    except (ValueError, KeyError, TypeError, ValidationError):
        raise NotServed(f"{client.base_url}{path} answers something else: is that the gateway?") from None


class Column(Distribution):
    """Values of one feature, drawn by the shares of its reference bins, and drifted ones.

    Args:
        feature: The feature as the manifest describes it.
        sampled: Values that the manifest shows; of prose, which has no categories, they are all that is known.
    """

    def __init__(self, feature: Feature, sampled: Values) -> None:
        known = [*(feature.categories or ()), *(value for value in sampled if isinstance(value, str))]
        super().__init__(feature, [text for text in known if text not in feature.reference.bins] or [UNKNOWN_TEXT])
        self._rarest = _rarest(self.bins, feature.reference.ratios)
        random = Random(0)
        drawn = [value for value in (self.draw(random) for _ in range(DEVIATION_DRAWS)) if isinstance(value, float)]
        self._deviation = pstdev(drawn) if drawn else 0.0
        self.can_drift = feature.minimum != feature.maximum or self._rarest is not None

    def draw_drifted(self, random: Random, deviations: float, strength: float) -> Scalar | None:
        """Draw a drifted value; missing ones stay as frequent as they were.

        A number is moved by `deviations` standard deviations of the training rows, times `strength` (0 to 1); a text
        or a boolean is more often the value that was rarest.
        """
        value = self.draw(random)
        if isinstance(value, float):
            moved = value + deviations * strength * self._deviation
            return float(round(moved)) if self.whole else moved
        if value is not None and self._rarest is not None and random.random() < RAREST_CHANCE * strength:
            return self._rarest
        return value


def _rarest(bins: Sequence[Interval | Values], ratios: Sequence[float]) -> Scalar | None:
    """Return the one text or boolean with the least share; None if there are not two to choose from."""
    known = [
        (ratio, bin_[0])
        for bin_, ratio in zip(bins, ratios, strict=True)
        if not isinstance(bin_, Interval) and len(bin_) == 1 and bin_[0] not in (None, UNKNOWN_TEXT)
    ]
    return min(known, key=lambda pair: pair[0])[1] if len(known) > 1 else None


class Sampler:
    """Rows drawn feature by feature, so correlations between features are lost; the same seed gives the same rows.

    Raises:
        NotServed: if the model has no feature `drifting`, or that one can't drift.
    """

    def __init__(self, model: Model, seed: int, drifting: str | None, deviations: float) -> None:
        self._random = Random(seed)
        self._columns = {
            feature.name: Column(feature, [sample.row[position] for sample in model.samples])
            for position, feature in enumerate(model.features)
        }
        self._deviations = deviations
        able = [name for name, column in self._columns.items() if column.can_drift]
        if drifting and drifting not in able:
            raise NotServed(f"there is no feature {drifting!r} that could drift; there is {', '.join(able) or 'none'}")
        self.drifting = drifting or next(iter(able), None)
        """The feature that drifts; None if there is none that can."""

    def row(self, drift: float = 0.0) -> Row:
        """Draw a row as in training, or one that has drifted with that strength, 0 to 1."""
        return {
            name: column.draw_drifted(self._random, self._deviations, drift)
            if drift and name == self.drifting
            else column.draw(self._random)
            for name, column in self._columns.items()
        }
