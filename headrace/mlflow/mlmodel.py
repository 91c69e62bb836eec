"""The file `MLmodel`, with which MLflow describes a model: its flavour, its signature and its input example."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from headrace.errors import MlflowUnusable
from headrace.mlflow.folders import Folder
from headrace.mlflow.limits import DOCUMENT_MAX_BYTES, inside
from headrace.models.manifest import FEATURES_MAX, FILLED_MAX

MLMODEL_FILE = "MLmodel"

DOCUMENT_MAX_CHARACTERS = 1_000_000
"""Characters of `MLmodel`: PyYAML takes a minute for 16 MB. Signatures of 10,000 columns have fewer."""

COLUMNS_MAX = FEATURES_MAX + FILLED_MAX
"""Columns of an input example: as many as `export` takes, features and columns that are none. A million take 1 GB."""

Serialization = Literal["skops", "pickle"]


@dataclass(frozen=True)
class Column:
    """A column of a signature."""

    name: str
    type: str
    """A type of MLflow, such as `double`."""
    required: bool


@dataclass(frozen=True)
class Example:
    """An input example: rows, with names of columns if it was a data frame."""

    columns: list[str] | None
    rows: list[Any]


@dataclass(frozen=True)
class MlflowModel:
    """A model of the scikit-learn flavour, as its files describe it."""

    file: str
    serialization: Serialization
    sklearn_version: str
    columns: list[Column] | None
    """The columns of the signature; None if it has no names, or there is none."""
    tensor: str | None
    """The dtype of the array in the signature; None if it is none."""
    example: Example | None


def read_model(folder: Folder, where: str) -> MlflowModel:
    """Read what MLflow says of a model; `where` names it in errors.

    Raises:
        MlflowUnusable: if it is no model of scikit-learn, or what is said of it can't be understood.
    """
    document = _yaml(folder(MLMODEL_FILE, DOCUMENT_MAX_CHARACTERS), where)
    flavors = _mapping(document.get("flavors"))
    if "sklearn" not in flavors:
        # Only texts are shown: aliases of YAML can make other values as long as they like.
        names = ", ".join(each for each in flavors if isinstance(each, str)) or "none"
        raise MlflowUnusable(f"{where}: it has no scikit-learn flavour; its flavours are {names[:200]}")
    flavor = _mapping(flavors["sklearn"])
    serialization = flavor.get("serialization_format", "pickle")
    file, version = flavor.get("pickled_model"), flavor.get("sklearn_version")
    if serialization not in ("skops", "pickle", "cloudpickle"):
        shown = f" {serialization[:50]!r}" if isinstance(serialization, str) else ""
        raise MlflowUnusable(f"{where}: its serialization_format{shown} is not known")
    if not isinstance(file, str) or not isinstance(version, str):
        raise MlflowUnusable(f"{where}: {MLMODEL_FILE} does not name the file and the version of scikit-learn")
    columns, tensor = _signature(document.get("signature"), where)
    return MlflowModel(
        file=inside(file),
        serialization="skops" if serialization == "skops" else "pickle",
        sklearn_version=version,
        columns=columns,
        tensor=tensor,
        example=_example(document.get("saved_input_example_info"), folder, where),
    )


class _TextLoader(yaml.BaseLoader):
    """A loader of YAML that reads every scalar but null as its text.

    A few characters of other ones stand for much work: merge keys for gigabytes, numbers of base 60 for hours.
    """


_NULL = "tag:yaml.org,2002:null"
_TextLoader.add_implicit_resolver(_NULL, re.compile("^(~|null|Null|NULL|)$"), ["~", "n", "N", ""])
_TextLoader.add_constructor(_NULL, lambda _loader, _node: None)


def _yaml(content: bytes, where: str) -> Mapping[str, Any]:
    try:
        document = yaml.load(content.decode(), _TextLoader)
    except (UnicodeDecodeError, yaml.YAMLError, ValueError, RecursionError):
        raise MlflowUnusable(f"{where}: {MLMODEL_FILE} is no YAML") from None
    if not isinstance(document, dict):
        raise MlflowUnusable(f"{where}: {MLMODEL_FILE} describes no model")
    return document


def _signature(value: Any, where: str) -> tuple[list[Column] | None, str | None]:
    inputs = _mapping(value).get("inputs")
    if inputs is None:
        return None, None
    try:
        listed = json.loads(inputs)
        if len(listed) == 1 and listed[0]["type"] == "tensor" and not listed[0].get("name"):
            return None, listed[0]["tensor-spec"]["dtype"]
        if any("name" not in each for each in listed):
            # The rows tell the types.
            return None, None
        columns = [Column(each["name"], str(each["type"]), bool(each.get("required", True))) for each in listed]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise MlflowUnusable(f"{where}: the signature in {MLMODEL_FILE} can't be read") from None
    if not all(isinstance(each.name, str) for each in columns):
        raise MlflowUnusable(f"{where}: the signature in {MLMODEL_FILE} has names that are no texts")
    return columns, None


def _example(value: Any, folder: Folder, where: str) -> Example | None:
    """Return the input example; None if there is none, or it has a form that is no table."""
    info = _mapping(value)
    path, form = info.get("artifact_path"), info.get("type")
    if not isinstance(path, str) or form not in ("dataframe", "ndarray"):
        return None
    try:
        document = json.loads(folder(path, DOCUMENT_MAX_BYTES))
        is_frame = form == "dataframe"
        # MLflow writes an array as a list, and some versions of it as `inputs` of a request.
        rows = document["data"] if is_frame else document["inputs"] if isinstance(document, dict) else document
        columns = document.get("columns") if is_frame else None
        lengths = {len(row) for row in rows}
    except (UnicodeDecodeError, KeyError, TypeError, AttributeError, ValueError, RecursionError):
        return None
    if len(lengths) != 1 or (columns is not None and {len(columns)} != lengths):
        raise MlflowUnusable(f"{where}: the rows of its input example have different lengths")
    if max(lengths) > COLUMNS_MAX:
        raise MlflowUnusable(f"{where}: its input example has more than {COLUMNS_MAX:,} columns")
    return Example(None if columns is None else [str(each) for each in columns], rows)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
