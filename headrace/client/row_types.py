"""Types of a model's rows: a Python module for callers, so that a type checker finds wrong rows before the gateway."""

import keyword
import re
from typing import Any

from headrace.client.errors import ClientMisused
from headrace.client.forms import Description, FeatureType
from headrace.models.manifest import IDENTIFIER_PATTERN

CHOICES_MAX = 20
"""Most values of a text that a type names one by one; a text with more is a `str`."""

_TYPES = {"number": "float", "string": "str", "boolean": "bool"}

_IMPORTED = ("Any", "Literal", "NotRequired", "TypedDict")

_NOT_REQUIRED = """
if sys.version_info >= (3, 11):
    from typing import NotRequired
else:
    from typing_extensions import NotRequired
"""


def module_of(description: dict[str, Any]) -> str:
    """Return a Python module with a `TypedDict` of the rows that a model version takes.

    A number is a `float`. A feature that may be missing is `NotRequired`, and may be None. A text is a `Literal` where
    the model takes a few values only. The module is for Python 3.10 and newer, and formatters leave it alone.

    Args:
        description: the description of the version, as of `Client.model`.

    Raises:
        ClientMisused: if it is none.
    """
    try:
        Description.model_validate(description)
    except ValueError:
        raise ClientMisused("this is no description of a model: a name, version or feature is missing") from None
    model, version = description["name"], description["version"]
    if not all(re.fullmatch(IDENTIFIER_PATTERN, each) for each in (model, version)):
        raise ClientMisused("this is no description of a model: its name or version is no identifier")
    features = {each["name"]: FeatureType.model_validate(each) for each in description["features"]}
    rows = f"Rows of the model {model}, version {version}."
    return f'"""{rows} Written by Headrace: not to be changed by hand."""\n\n# fmt: off\n\n' + "".join(
        [*_imports(list(features.values())), "\n\n", *_typed_dict(_class_name(model), rows, features)]
    )


def _imports(features: list[FeatureType]) -> list[str]:
    optional = any(feature.nullable for feature in features)
    any_type = ["Any"] if any(feature.type not in _TYPES for feature in features) else []
    literal = ["Literal"] if any(_choices(feature) for feature in features) else []
    names = ", ".join([*any_type, *literal, "TypedDict"])
    return ["import sys\n" if optional else "", f"from typing import {names}\n", _NOT_REQUIRED if optional else ""]


def _typed_dict(name: str, purpose: str, features: dict[str, FeatureType]) -> list[str]:
    """Return the lines of a `TypedDict`: a class if each feature may be an attribute of one, or else a call."""
    if all(_is_attribute(each) for each in features):
        fields = [f"    {each}: {_type_of(feature)}\n" for each, feature in features.items()]
        return [f'class {name}(TypedDict):\n    """{purpose}"""\n\n', *fields]
    items = [f"        {_literal(each)}: {_type_of(feature)},\n" for each, feature in features.items()]
    return [f'{name} = TypedDict(\n    "{name}",\n    {{\n', *items, "    },\n)\n"]


def _class_name(model: str) -> str:
    name = "".join(part[:1].upper() + part[1:] for part in re.split("[^A-Za-z0-9]+", model))
    return f"{name if name[0].isalpha() else f'Model{name}'}Row"


def _is_attribute(name: str) -> bool:
    # Python changes names beyond ASCII, and those with two underscores; a name of a type would hide the type.
    plain = name.isascii() and name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("__")
    return plain and name not in (*_TYPES.values(), *_IMPORTED)


def _type_of(feature: FeatureType) -> str:
    choices = _choices(feature)
    known = f"Literal[{', '.join(map(_literal, choices))}]" if choices else _TYPES.get(feature.type, "Any")
    return f"NotRequired[{known} | None]" if feature.nullable else known


def _choices(feature: FeatureType) -> list[str]:
    """Return the only texts that a model tells apart, if they are few."""
    texts = feature.known or (feature.categories if feature.dtype == "category" else None) or []
    if feature.type != "string" or len(texts) > CHOICES_MAX:
        return []
    return [text for text in texts if isinstance(text, str)]


def _literal(text: str) -> str:
    """Return a text as a literal in double quotes where that needs no escapes; what can't be seen is escaped."""
    quoted = repr(f"'{text}")
    return f'"{quoted[2:]}' if quoted.startswith('"') else repr(text)
