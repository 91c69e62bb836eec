"""Rows of a model from the tensors of an inference request: one tensor of all features, or one of each."""

from array import array
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from gateway.catalog.columns import are_valid_numbers
from gateway.catalog.row_examiner import MISTAKES_MAX
from gateway.catalog.row_parser import RowParser
from gateway.errors import InvalidRows, InvalidTensors
from gateway.oip.tensors import Tensor
from headrace.models.manifest import Feature
from shared.queue.contract import Row
from shared.queue.packed_rows import PackedRows, interleaved


def rows_of(inputs: Sequence[Tensor], features: Sequence[Feature], parser: RowParser, rows_max: int) -> Sequence[Row]:
    """Return the rows in feature order; those of valid numbers without a loop over the values.

    Args:
        inputs: one tensor of shape (n, features) and any name, or by name one per feature of shape (n, 1) or (n,).
        features: the model's features.
        parser: the parser of the model's rows.
        rows_max: the most rows of a request.

    Raises:
        InvalidTensors: if they are of other shapes.
        InvalidRows: if they are not rows of this model.
    """
    table = _table(inputs, features, parser.names)
    n_rows = inputs[0].shape[0]
    if not 0 < n_rows <= rows_max:
        raise InvalidRows([((), f"A request should have 1 to {rows_max} rows")])
    if all(feature.type == "number" for feature in features):
        numbers = _numbers(inputs, features, parser.names) if table is None else _array(table)
        if numbers is not None and are_valid_numbers(numbers, features):
            return PackedRows(numbers, len(features))
    if table is None:
        check_names([tensor.name for tensor in inputs], parser.names)
        columns = {tensor.name: _nulls_for_nan(tensor.values) for tensor in inputs}
    else:
        values = _nulls_for_nan(table.values)
        columns = {feature.name: values[at :: len(features)] for at, feature in enumerate(features)}
    return parser.rows_of(columns, n_rows)


def _table(inputs: Sequence[Tensor], features: Sequence[Feature], names: frozenset[str]) -> Tensor | None:
    """Return the only tensor if it has all features, None if each has its own.

    Raises:
        InvalidTensors: if the tensors have neither form.
    """
    first = inputs[0]
    if len(inputs) == 1:
        if first.shape[1:] == [len(features)]:
            return first
        if len(features) == 1 and len(first.shape) == 1:
            return first
        if first.name not in names:
            raise InvalidTensors(f"one tensor of all features has the shape [rows, {len(features)}]")
    for tensor in inputs:
        if len(tensor.shape) > 2 or tensor.shape[1:] not in ([], [1]):
            raise InvalidTensors("the tensor of one feature has the shape [rows, 1] or [rows]")
        if tensor.shape[0] != first.shape[0]:
            raise InvalidTensors("the tensors of the features have different numbers of rows")
    return None


def check_names(inputs: Sequence[str], names: frozenset[str]) -> None:
    """Check that each input has the name of a feature; an unknown one would cost as much as one that is needed.

    Raises:
        InvalidRows: if one is not.
    """
    unknown = [name for name in inputs if name not in names]
    if unknown:
        raise InvalidRows([((0, name), "Extra inputs are not permitted") for name in unknown[:MISTAKES_MAX]])


def _numbers(inputs: Sequence[Tensor], features: Sequence[Feature], names: frozenset[str]) -> "array[float] | None":
    """Return the numbers of one tensor per feature, row after row; None if a tensor has others, or is not there."""
    by_name = {tensor.name: tensor for tensor in inputs}
    if by_name.keys() != names:
        return None
    columns = [column for feature in features if (column := _array(by_name[feature.name])) is not None]
    if len(columns) < len(features):
        return None
    return interleaved(columns, len(features), inputs[0].shape[0])


def _array(tensor: Tensor) -> "array[float] | None":
    """Return the values of a tensor as float64; None if they are not all numbers."""
    values = tensor.values
    if tensor.datatype in ("BOOL", "BYTES"):
        return None
    if isinstance(values, array) and values.typecode == "d":
        return values
    with suppress(TypeError, OverflowError):
        return array("d", values)
    return None


def _nulls_for_nan(values: Sequence[Any]) -> Sequence[Any]:
    """Return values with None in the place of NaN, which bytes can have."""
    if isinstance(values, list) or (isinstance(values, array) and values.typecode not in "fd"):
        return values
    return [None if value != value else value for value in values]
