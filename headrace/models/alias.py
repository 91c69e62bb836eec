"""An alias: a name that moves from version to version of a model, and remembers where it was."""

from collections.abc import Mapping
from datetime import datetime, timezone

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.errors import ManifestInvalid
from headrace.models.manifest import Identifier

LATEST = "latest"
PRODUCTION = "production"

MOST_REMEMBERED = 10


def served_alias(aliases: Mapping[str, str]) -> str:
    """The alias by which a model is served when nobody says which: `production` if there is one, or `latest`."""
    return PRODUCTION if PRODUCTION in aliases else LATEST


class Trial(BaseModel):
    """A second version that gets a share of an alias' traffic."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Identifier
    share: float = Field(gt=0, le=1)


class Alias(BaseModel):
    """The content of `<name>/aliases/<alias>.json`; moving one is writing it anew."""

    model_config = ConfigDict(frozen=True)

    version: Identifier
    """The version that it names now."""
    previous: list[Identifier] = []
    """Those that it named before, the newest first."""
    split: Trial | None = None
    """A version that answers a share of the requests instead."""
    shadow: Trial | None = None
    """A version that is asked a share of the requests too; its answers are compared and thrown away."""
    moved_at: str
    """UTC, ISO 8601."""

    @classmethod
    def parse(cls, content: bytes, where: str) -> "Alias":
        """Read an alias; `where` names it in the error.

        Raises:
            ManifestInvalid: if it is none.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise ManifestInvalid(f"{where}: {field}: {first['msg']}" if field else f"{where}: not an alias") from None

    @property
    def versions(self) -> set[str]:
        """Every version that gets traffic through this alias."""
        return {self.version, *(trial.version for trial in (self.split, self.shadow) if trial)}

    def content(self) -> bytes:
        """The form in which it is stored, for people too."""
        return self.model_dump_json(indent=2).encode() + b"\n"

    @classmethod
    def new(cls, version: str, previous: list[str]) -> "Alias":
        """An alias that moves now."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls(version=version, previous=previous[:MOST_REMEMBERED], moved_at=now)

    def moved(self, version: str) -> "Alias":
        """The same alias, naming another version; trials end."""
        return self.new(version, [self.version, *self.previous])

    def rolled_back(self, existing: set[str]) -> "Alias | None":
        """The same alias, naming the newest previous version that exists; None if there is none.

        The version that it leaves is not remembered: another step back leads further back.
        """
        for position, version in enumerate(self.previous):
            if version in existing and version != self.version:
                return self.new(version, self.previous[position + 1 :])
        return None
