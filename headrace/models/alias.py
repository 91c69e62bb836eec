"""Aliases: names that move from version to version of a model and remember the earlier versions."""

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime, timezone
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.errors import ManifestInvalid
from headrace.models.manifest import Identifier, Manifest

LATEST = "latest"
PRODUCTION = "production"

MOST_REMEMBERED = 10

ALIAS_BYTES_MAX = 10_000
"""Bytes of an alias' file, which has 1.5 kB at most: gateways read all of them every second."""


def served_alias(aliases: Collection[str]) -> str:
    """Return the alias by which a model is served by default: `production` if there is one, or else `latest`."""
    return PRODUCTION if PRODUCTION in aliases else LATEST


NAMES_SHOWN = 5
"""Names of features or outputs in the reason for which versions can't be compared."""


def mismatch(answers: Manifest, shadow: Manifest) -> str | None:
    """Return why a shadow can't be compared on the rows that another version answers; None if it can.

    The order of features, and of outputs, makes no difference, nor does the name of a single output.
    """
    features = [{each.name: each.type for each in version.features} for version in (answers, shadow)]
    outputs = [Counter(each.name for each in version.outputs) for version in (answers, shadow)]
    if features[0] != features[1]:
        return f"{shadow.version} and {answers.version} differ in features: {_differing(*features)}"
    if outputs[0] != outputs[1] and max(map(Counter.total, outputs)) > 1:
        return f"{shadow.version} and {answers.version} differ in outputs: {_differing(*outputs)}"
    return None


def _differing(some: Mapping[str, Any], others: Mapping[str, Any]) -> str:
    names = sorted({name for name, _ in some.items() ^ others.items()})
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(map(repr, names[:NAMES_SHOWN])) + more


class Trial(BaseModel):
    """A second version that gets a share of an alias' traffic."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Identifier
    share: float = Field(gt=0, le=1)


class Alias(BaseModel):
    """The content of `<name>/aliases/<alias>.json`; moving an alias rewrites the file."""

    model_config = ConfigDict(frozen=True)

    version: Identifier
    """The version that the alias names now."""
    previous: Annotated[list[Identifier], Field(max_length=MOST_REMEMBERED)] = []
    """Versions that the alias named before, the newest first. A worker that starts may have to try each."""
    split: Trial | None = None
    """A second version that answers a share of the requests."""
    shadow: Trial | None = None
    """A second version that gets a copy of a share of the requests; its predictions are compared and thrown away."""
    moved_at: str
    """Time of the last move, in UTC (ISO 8601)."""

    @classmethod
    def parse(cls, content: bytes, where: str) -> "Alias":
        """Read an alias; `where` names it in the error.

        Raises:
            ManifestInvalid: if the content is not an alias.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise ManifestInvalid(f"{where}: {field}: {first['msg']}" if field else f"{where}: not an alias") from None

    @property
    def versions(self) -> set[str]:
        """The versions that get traffic through this alias."""
        return {self.version, *(trial.version for trial in (self.split, self.shadow) if trial)}

    def content(self) -> bytes:
        """Return the JSON document that is stored."""
        return self.model_dump_json(indent=2).encode() + b"\n"

    @classmethod
    def new(cls, version: str, previous: list[str]) -> "Alias":
        """Return an alias that names `version` since now."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls(version=version, previous=previous[:MOST_REMEMBERED], moved_at=now)

    def moved(self, version: str) -> "Alias":
        """Return this alias after a move to another version, which ends its trials."""
        return self.new(version, [self.version, *self.previous])

    def rolled_back(self, existing: set[str]) -> "Alias | None":
        """Return this alias after a move to the newest previous version that exists; None if there is none.

        The version that it leaves is not remembered, so that another rollback leads further back.
        """
        for position, version in enumerate(self.previous):
            if version in existing and version != self.version:
                return self.new(version, self.previous[position + 1 :])
        return None
