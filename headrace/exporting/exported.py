"""The result of an export: where the new version is, and a card for notebooks."""

import json
import shlex
from dataclasses import dataclass
from html import escape
from pathlib import Path

from headrace.card.page import CARD_FILE
from headrace.models.made_up import example_row, flat_row
from headrace.models.manifest import Manifest

EXAMPLE_URL = "http://127.0.0.1:8000"
"""The gateway of the curl line: where `make up` and Compose publish it."""


@dataclass(frozen=True, repr=False)
class Exported:
    """A new version in a model store."""

    manifest: Manifest
    """The manifest, as read back from the store."""
    location: str
    """The folder or URL of the version."""
    alias: str | None
    """The alias that names the version now; None if none was moved."""
    notices: tuple[str, ...] = ()
    """Sentences about the version that its exporter should read."""
    new_store: bool = False
    """True if there was no model store at this place before."""

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """The name of the version."""
        return self.manifest.version

    def __repr__(self) -> str:
        alias = f", alias={self.alias!r}" if self.alias else ""
        new_store = ", new_store=True" if self.new_store else ""
        notices = f", notices={list(self.notices)}" if self.notices else ""
        return (
            f"Exported({self.name!r}, version={self.version!r}{alias}, location={self.location!r}{new_store}{notices})"
        )

    def curl_line(self) -> str:
        """Return a shell command that asks a gateway on this machine for a prediction of the example row."""
        body = json.dumps(flat_row(self.manifest, example_row(self.manifest)), ensure_ascii=False)
        url = f"{EXAMPLE_URL}/models/{self.name}/versions/{self.alias or self.version}/predict"
        return f"curl {url} -H 'Content-Type: application/json' -d {shlex.quote(body)}"

    def _repr_html_(self) -> str:
        """Return the card that a notebook shows."""
        path = f"{self.location}/{CARD_FILE}"
        link = path if "://" in path else Path(path).resolve().as_uri()
        alias = f", now <code>{escape(self.alias)}</code>" if self.alias else ""
        notices = "".join(f"<p>{escape(each)}</p>" for each in self.notices)
        return (
            f"<div><strong>{escape(self.name)} {escape(self.version)}</strong>{alias}<br>"
            f"{'In a new model store: ' if self.new_store else ''}<code>{escape(self.location)}</code>"
            f' · <a href="{escape(link)}">model card</a>'
            f"<pre>{escape(self.curl_line())}</pre>{notices}</div>"
        )
