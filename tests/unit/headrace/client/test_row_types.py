"""Python modules with the types of rows, read by mypy and by Python itself."""

import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from headrace.client.errors import ClientMisused
from headrace.client.row_types import CHOICES_MAX, module_of
from tests.support.requirements import require

ODD = [
    *("a b", "class", "None", "match", "größe", "ﬁ", "东京", "", "1st", "a-b", "a.b", "__x", "__init__", "_x", "self"),
    *("float", "str", "bool", "Any", "Literal", "NotRequired", "TypedDict", "keys", "items", "get", "total", "sys"),
    *("it's", 'say "x"', 'it\'s "x"', "a\\", "a\nb", "\x1b[2J", "\u202e", "\u2028", "{x}", "%s", '"""', "#", "'"),
]


def described(*features: dict[str, Any], name: str = "churn", version: str = "v1") -> dict[str, Any]:
    return {"name": name, "version": version, "features": list(features), "aliases": {}}


def feature(name: str, kind: str = "number", **members: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, "nullable": False, "dtype": "float64", **members}


CUSTOMER = described(
    feature("age"),
    feature("income", nullable=True),
    feature("married", "boolean"),
    feature("town", "string", categories=["Ulm", "Bonn"], dtype="object"),
    feature("plan", "string", known=["basic", "pro"], nullable=True),
    feature("tier", "string", categories=["a", "b"], dtype="category"),
    feature("note", "string", known=[f"{at}" for at in range(CHOICES_MAX + 1)]),
)


def ran(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)


def mypy(folder: Path, **modules: str) -> str:
    """Return what mypy says of modules: one line per error, without the paths."""
    for name, text in modules.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    (folder / "mypy.ini").write_text("[mypy]\n")
    files = [str(folder / f"{name}.py") for name in modules]
    checked = ran("mypy", "--strict", "--config-file", folder / "mypy.ini", "--cache-dir", folder / "cache", *files)
    return checked.stdout.replace(f"{folder}/", "")


def test_a_row_has_the_types_of_its_features() -> None:
    assert module_of(CUSTOMER) == (
        '''"""Rows of the model churn, version v1. Written by Headrace: not to be changed by hand."""

# fmt: off

import sys
from typing import Literal, TypedDict

if sys.version_info >= (3, 11):
    from typing import NotRequired
else:
    from typing_extensions import NotRequired


class ChurnRow(TypedDict):
    """Rows of the model churn, version v1."""

    age: float
    income: NotRequired[float | None]
    married: bool
    town: str
    plan: NotRequired[Literal["basic", "pro"] | None]
    tier: Literal["a", "b"]
    note: str
'''
    )


def test_names_that_are_no_attributes_are_keys_of_a_call() -> None:
    assert module_of(described(feature("a b"), feature("class", nullable=True))).endswith(
        """

ChurnRow = TypedDict(
    "ChurnRow",
    {
        "a b": float,
        "class": NotRequired[float | None],
    },
)
"""
    )


@pytest.mark.parametrize("odd", ODD)
def test_python_reads_every_name_as_it_is(odd: str) -> None:
    kinds = [feature(odd, "string", known=ODD[-13:], nullable=True), feature("x", "boolean")]
    scope: dict[str, Any] = {}

    text = module_of(described(*kinds))
    exec(text, scope)

    assert list(scope["ChurnRow"].__annotations__) == [odd, "x"]
    assert all(character.isprintable() for line in text.split("\n") for character in line)
    choices = get_type_hints(scope["ChurnRow"])[odd].__args__[0]
    assert list(choices.__args__) == ODD[-13:]


def test_mypy_reads_odd_names_and_finds_wrong_rows(tmp_path: Path) -> None:
    strange = described(*(feature(name, nullable=bool(at % 2)) for at, name in enumerate(ODD)), name="2.odd-rows")
    one_by_one = {
        f"odd_{at}": module_of(described(feature(name, "string", known=[name, "x"]))) for at, name in enumerate(ODD)
    }
    usage = """
from churn import ChurnRow
from strange import Model2OddRowsRow

row: ChurnRow = {"age": 4, "married": True, "town": "Köln", "plan": None, "tier": "a", "note": ""}
full: ChurnRow = {**row, "income": 1.5, "plan": "pro"}
odd: Model2OddRowsRow
plan: ChurnRow = {**row, "plan": "gold"}
missing: ChurnRow = {"age": 4, "town": "Köln", "tier": "a", "note": ""}
more: ChurnRow = {**row, "colour": "red"}
kind: ChurnRow = {**row, "age": "old"}
"""
    said = mypy(tmp_path, churn=module_of(CUSTOMER), strange=module_of(strange), **one_by_one, usage=usage)

    errors = [line.split(": error: ")[0] for line in said.splitlines() if ": error: " in line]
    assert errors == ["usage.py:8", "usage.py:9", "usage.py:10", "usage.py:11"], said


@pytest.mark.parametrize("length", ["40", "120"])
def test_formatters_have_nothing_to_change(tmp_path: Path, length: str) -> None:
    names = ["n" * 128, "n" * 127 + " "]
    for at, name in enumerate(names):
        kinds = [feature(name, "string", known=ODD[-13:], nullable=True), feature("x")]
        (tmp_path / f"module_{at}.py").write_text(module_of(described(*kinds)), encoding="utf-8")

    formatted = ran("ruff", "format", "--no-cache", "--check", "--line-length", length, tmp_path)
    require("No module named ruff" not in formatted.stderr, "ruff is not installed")
    assert (formatted.returncode, formatted.stdout.strip()) == (0, "2 files already formatted"), formatted.stderr


def test_a_type_of_a_later_gateway_is_any() -> None:
    module = module_of(described(feature("x", "image"), feature("y", "image", nullable=True)))

    assert "from typing import Any, TypedDict\n" in module
    assert "    x: Any\n    y: NotRequired[Any | None]\n" in module


@pytest.mark.parametrize(
    "description",
    [
        {},
        described(),
        described(feature("x"), name='x"""\nimport os'),
        described(feature("x"), version="v\n1"),
        described({"name": 1}),
    ],
)
def test_a_description_of_another_form_is_refused(description: dict[str, Any]) -> None:
    with pytest.raises(ClientMisused, match="this is no description of a model: "):
        module_of(description)
