"""Names of models: a folder, or a version of a registered model as MLflow's own tools name it."""

import re
from dataclasses import dataclass
from pathlib import Path

from headrace.errors import MlflowUnusable

SCHEME = "models:/"


@dataclass(frozen=True)
class Registered:
    """A version of a registered model: `models:/name/7` or `models:/name@alias`; one of the two is None."""

    name: str
    version: str | None = None
    alias: str | None = None

    def __str__(self) -> str:
        return f"{SCHEME}{self.name}" + (f"@{self.alias}" if self.alias else f"/{self.version}")


def parsed(text: str) -> Registered | Path:
    """Read the name of a model.

    Raises:
        MlflowUnusable: if it begins with `models:` and names neither a version nor an alias.
    """
    if not text.startswith("models:"):
        return Path(text.removeprefix("file://"))
    if found := re.fullmatch(r"models:/([^/@:]+)(?:/(\d{1,18})|@([^/@:]+))", text):
        return Registered(*found.groups())
    raise MlflowUnusable(f"{text!r} is neither models:/NAME/VERSION nor models:/NAME@ALIAS")
