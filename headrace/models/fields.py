"""Types of the fields of a manifest, which anyone may have written: mistakes, lengths and numbers are bounded."""

from itertools import pairwise
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, StringConstraints

EDGES_MAX = 100
"""Edges of the bins or of the histogram of a number: an export makes at most 12, and workers count 21 bins."""

NAME_MAX, FACT_MAX, LABEL_MAX, DESCRIPTION_MAX = 128, 512, 1_024, 100_000
"""Characters of names, of facts such as a version of a library, of labels, and of a description."""

PARTS_MAX = 800_000
"""Commas and brackets of a document: a manifest of 10,000 numbers has 700,000, and takes 0.3 s to parse."""

WHOLE_MAX = 2**63 - 1
"""Greatest whole number: JSON is written with 64 bits, and arrays have no more."""

_ARRAYS = r"float(16|32|64|96|128)|u?int(8|16|32|64)|bool|object"
_FRAMES = r"U?Int(8|16|32|64)|Float(32|64)|boolean|str|string|category"
_TIMES = r"timedelta64\[(s|ms|us|ns)\]|datetime64\[(s|ms|us|ns)(, [A-Z][A-Za-z_]+(/[A-Za-z0-9_+-]+){0,2})?\]"

DTYPE_PATTERN = f"^({_ARRAYS}|{_FRAMES}|{_TIMES})$"
"""Dtypes of NumPy and pandas: pandas reads more of a text, such as the path of a file as a time zone."""

InputForm = Literal["array", "frame", "series", "texts"]

INPUT_FORMS: dict[InputForm, str] = {
    "array": "an array",
    "frame": "a data frame",
    "series": "a series of texts",
    "texts": "an array of texts",
}
"""Forms of input, for people."""

Item = TypeVar("Item")

Items = Annotated[list[Item], Field(fail_fast=True)]
"""A list that is read up to its first mistake: 800,000 mistakes take a gigabyte."""

Whole = Annotated[int, Field(ge=-WHOLE_MAX, le=WHOLE_MAX)]
Position = Annotated[int, Field(ge=0, le=WHOLE_MAX)]
Count = Annotated[int, Field(gt=0, le=WHOLE_MAX)]
Length = Annotated[int, Field(ge=0, le=2**31)]
"""Characters of a text."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_MAX)]
"""Name of a feature or an output."""

Fact = Annotated[str, StringConstraints(max_length=FACT_MAX)]

Label = Annotated[str, StringConstraints(max_length=LABEL_MAX)]
"""A class, a category, a bin, or the name of a column that is no feature."""

LabelOrNumber = Label | Whole | float | bool

Scalar = str | Whole | float | bool

Dtype = Annotated[str, StringConstraints(pattern=DTYPE_PATTERN)]


def _check_rising(edges: list[float]) -> list[float]:
    if any(high <= low for low, high in pairwise(edges)):
        raise ValueError("edges must rise")
    return edges


Edges = Annotated[list[float], Field(fail_fast=True, max_length=EDGES_MAX), AfterValidator(_check_rising)]
"""Rising cut points of numbers."""


def class_key(label: str | int | bool) -> str:
    """Return the key of a class in an object of probabilities: the text of its JSON, of a string the string itself."""
    return str(label).lower() if isinstance(label, bool) else str(label)


def has_too_many_parts(content: bytes) -> bool:
    """Return True if a document of JSON has more than PARTS_MAX parts: to parse the longest would take 2.5 GB."""
    return sum(map(content.count, (b",", b"[", b"{"))) > PARTS_MAX
