"""The features of a model as its gateway describes them: the types of values that are written as texts."""

import math
import re
from dataclasses import dataclass
from typing import Any

import orjson

from headrace.cli.calls.outcomes import WrongArgument
from headrace.client.client import Client
from headrace.client.errors import Unauthorized, UnusableAnswer

Row = dict[str, Any]

SHOWN_CHARACTERS = 40
"""Characters of a wrong value that an error shows."""

SHOWN_NAMES = 20
"""Features that an error names at most."""

SENDABLE = range(-(2**63), 2**64)
"""Whole numbers that the client can send; the gateway takes those that float64 holds."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,25}")
_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_JSON_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}


class WrongValue(Exception):
    """A value that does not fit its feature; the text says why."""


@dataclass(frozen=True)
class Feature:
    """A feature. Of an unknown type any value is taken, and left to the gateway."""

    name: str
    type: str | None
    nullable: bool


class Features:
    """The features of a model; none are known if the API key may not read the description of the model."""

    def __init__(self, described: list[dict[str, Any]] | None) -> None:
        self.known = described is not None
        self._by_name: dict[str, Feature] = {}
        for each in described or ():
            # A gateway that says nothing of null refuses it itself.
            kind, nullable = each.get("type"), each.get("nullable") is not False
            self._by_name[each["name"]] = Feature(each["name"], kind if isinstance(kind, str) else None, nullable)

    @classmethod
    def of(cls, client: Client, model: str | None, version: str | None) -> "Features":
        """Ask a gateway for the features of a model, by default of its default model.

        Raises:
            HeadraceError: if it does not answer, or has no such model.
        """
        try:
            if model is None:
                names = [each["name"] for each in client.models() if each.get("default") is True]
                if not names:
                    raise UnusableAnswer(200, "none of its models is the default one")
                model = names[0]
            return cls(client.model(model, version)["features"])
        except Unauthorized as error:
            if error.status != 403:
                raise
            return cls(None)

    @property
    def names(self) -> str:
        """The names of the features, the first of many."""
        more = ", …" if len(self._by_name) > SHOWN_NAMES else ""
        return ", ".join([*self._by_name][:SHOWN_NAMES]) + more

    def check_header(self, line: list[str]) -> None:
        """Check the first line of a table.

        Raises:
            WrongArgument: if features are known, and it names none of them.
        """
        if self._by_name and line and not self._by_name.keys() & set(line):
            raise WrongArgument(
                f"the first line must name the features, with commas between them, and it is {_shown(','.join(line))}; "
                f"the model has {self.names}"
            )

    def cell(self, text: str) -> tuple[str, str]:
        """Split `name=value`; a name may have a `=` itself, if it is that of a feature.

        Raises:
            WrongArgument: if there is no `=`.
        """
        places = [at for at, character in enumerate(text) if character == "="]
        if not places:
            raise WrongArgument(f"{text[:SHOWN_CHARACTERS]!r} is no value of a row: write it as name=value")
        at = next((at for at in places if text[:at] in self._by_name), places[0])
        return text[:at], text[at + 1 :]

    def value(self, name: str, text: str) -> Any:
        """Return the value that a text stands for: by the type of its feature, or as JSON has it.

        Raises:
            WrongValue: if it stands for none.
        """
        feature = self._by_name.get(name)
        kind = feature.type if feature else None
        if kind == "string":
            return text
        word = text.strip()
        if kind == "boolean" and word.lower() in ("true", "false"):
            # Python and pandas write them with a capital.
            return word.lower() == "true"
        if word in _JSON_WORDS:
            return _JSON_WORDS[word]
        if _WHOLE.fullmatch(word):
            return int(word)
        if _DECIMAL.fullmatch(word):
            return float(word)
        if kind is None:
            return text
        raise WrongValue(f"{_shown(text)} is no {kind}")

    def check(self, row: Row, where: str) -> None:
        """Check a row as far as the features are known.

        Args:
            row: the row.
            where: the row's place for the error, such as `row 3`.

        Raises:
            WrongArgument: if a value does not fit, or is missing.
        """
        for name, value in row.items():
            try:
                self._check_value(name, value)
            except WrongValue as error:
                raise WrongArgument(f"{where}, column {_shown(name)}: {error}") from None
        if len(row) < len(self._by_name):
            for feature in self._by_name.values():
                if not feature.nullable and feature.name not in row:
                    raise WrongArgument(f"{where}, column {_shown(feature.name)}: it has no value")
        try:
            orjson.dumps(row)
        except orjson.JSONEncodeError as error:
            raise WrongArgument(f"{where} can't be sent as JSON: {error}") from None

    def _check_value(self, name: str, value: Any) -> None:
        if isinstance(value, int) and value not in SENDABLE:
            raise WrongValue(f"{_shown(value)} is too large")
        if isinstance(value, float) and not math.isfinite(value):
            raise WrongValue("it is no number that float64 holds")
        if not self.known:
            return
        feature = self._by_name.get(name)
        if feature is None:
            raise WrongValue(f"the model has no such feature; it has {self.names}")
        if value is None:
            if not feature.nullable:
                raise WrongValue("it is missing, and the model takes no missing values here")
        elif not _fits(value, feature.type):
            raise WrongValue(f"{_shown(value)} is no {feature.type}")


def _fits(value: Any, kind: str | None) -> bool:
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "string":
        return isinstance(value, str)
    return isinstance(value, bool) if kind == "boolean" else True


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
