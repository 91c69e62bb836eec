"""Types of the lists in a manifest, which anyone may have written: mistakes and lengths are bounded."""

from itertools import pairwise
from typing import Annotated, TypeVar

from pydantic import AfterValidator, Field

EDGES_MAX = 100
"""Edges of the bins or of the histogram of a number: an export makes at most 12, and workers count 21 bins."""

Item = TypeVar("Item")

Items = Annotated[list[Item], Field(fail_fast=True)]
"""A list that is read up to its first mistake: 800,000 mistakes take a gigabyte."""


def _check_rising(edges: list[float]) -> list[float]:
    if any(high <= low for low, high in pairwise(edges)):
        raise ValueError("edges must rise")
    return edges


Edges = Annotated[list[float], Field(fail_fast=True, max_length=EDGES_MAX), AfterValidator(_check_rising)]
"""Rising cut points of numbers."""
