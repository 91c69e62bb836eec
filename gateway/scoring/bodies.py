"""Bodies in the forms of other scoring servers, as rows of a model.

MLflow has four, each an object with one member: `dataframe_split`, `dataframe_records`, `instances`, `inputs`.
TensorFlow Serving has `instances`. A row is an object, or a list of values in feature order.
"""

from collections.abc import Callable, Sequence
from typing import Any

from gateway.catalog.row_examiner import parse_json
from gateway.catalog.row_parser import RowParser
from gateway.errors import InvalidRows
from headrace.models.manifest import Feature
from shared.queue.contract import Row

Reader = Callable[[Any, Sequence[Feature], RowParser], Sequence[Row]]

IGNORED = frozenset(["params", "signature_name"])
"""Members beside the rows; both must be empty or name the default."""

_DEFAULT_SIGNATURES: tuple[Any, ...] = (None, {}, "serving_default")


def read_json(body: bytes, features: Sequence[Feature], parser: RowParser, forms: Sequence[str]) -> Sequence[Row]:
    """Return the rows of a body in JSON.

    Args:
        body: the body.
        features: the model's features.
        parser: the parser of the model's rows.
        forms: the members, of FORMS, that the body may have.

    Raises:
        InvalidJson: if it is not JSON.
        InvalidRows: if it does not hold rows of the model, or has another form.
    """
    parser.parts_limit.check(body)
    content = parse_json(body)
    given = [name for name in forms if name in content] if isinstance(content, dict) else []
    if len(given) != 1 or content.keys() - IGNORED != {*given}:
        raise _mistake([], f"Input should be an object with one of: {', '.join(forms)}")
    for name in IGNORED & content.keys():
        if content[name] not in _DEFAULT_SIGNATURES:
            raise _mistake([name], "Input should be empty")
    [name] = given
    try:
        return FORMS[name](content[name], features, parser)
    except InvalidRows as error:
        mistakes = [((name, *path), detail) for path, detail in error.mistakes]
        raise InvalidRows(mistakes, of_form=error.of_form) from None


def _instances(rows: Any, features: Sequence[Feature], parser: RowParser) -> Sequence[Row]:
    if not isinstance(rows, list) or not 0 < len(rows) <= parser.rows_max:
        raise _mistake([], f"Input should be a list of 1 to {parser.rows_max} rows")
    kinds = set(map(type, rows))
    if kinds == {list}:
        return _listed(rows, [feature.name for feature in features], parser)
    if kinds == {dict}:
        return parser.rows_of_objects(rows)
    if len(features) == 1 and kinds.isdisjoint((list, dict)):
        return parser.rows_of({features[0].name: rows}, len(rows))
    at = next(at for at, row in enumerate(rows) if not isinstance(row, list | dict) or type(row) is not type(rows[0]))
    raise _mistake([at], f"Input should be an object or a list of {len(features)} values, and all rows alike")


def _inputs(inputs: Any, features: Sequence[Feature], parser: RowParser) -> Sequence[Row]:
    """Return the rows of `inputs`: lists of values by feature, or rows."""
    if not isinstance(inputs, dict):
        return _instances(inputs, features, parser)
    if not all(isinstance(values, list) for values in inputs.values()):
        # A single row, each feature with its value.
        return parser.rows_of_objects([inputs])
    lengths = set(map(len, inputs.values()))
    if len(lengths) != 1 or not 0 < max(lengths) <= parser.rows_max:
        raise _mistake([], f"Input should have 1 to {parser.rows_max} values of each feature")
    columns = {name: [*map(_unwrapped, values)] for name, values in inputs.items()}
    return parser.rows_of(columns, lengths.pop())


def _split(split: Any, _: Sequence[Feature], parser: RowParser) -> Sequence[Row]:
    """Return the rows of `dataframe_split`; its index is ignored."""
    if not isinstance(split, dict) or not {"columns", "data"} <= split.keys() <= {"columns", "data", "index"}:
        raise _mistake([], "Input should be an object with columns and data")
    names, rows = split["columns"], split["data"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
        raise _mistake(["columns"], "Input should be a list of different names")
    if not isinstance(rows, list) or not 0 < len(rows) <= parser.rows_max:
        raise _mistake(["data"], f"Input should be a list of 1 to {parser.rows_max} rows")
    try:
        return _listed(rows, names, parser)
    except InvalidRows as error:
        mistakes = [(_place_of(path, names, parser), detail) for path, detail in error.mistakes]
        raise InvalidRows(mistakes, of_form=error.of_form) from None


def _place_of(path: Sequence[int | str], names: Sequence[str], parser: RowParser) -> Sequence[int | str]:
    """Return the place in `dataframe_split` of a row, or of a value by the name of its column."""
    row, *rest = path
    if not rest or rest[0] not in names:
        return ["data", *path]
    at = names.index(str(rest[0]))
    return ["data", row, at] if rest[0] in parser.names else ["columns", at]


def _listed(rows: list[Any], names: Sequence[str], parser: RowParser) -> Sequence[Row]:
    """Return rows that are lists of values; the names tell the feature of each."""
    for at, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            raise _mistake([at], f"Input should be a list of {len(names)} values")
    return parser.rows_of(dict(zip(names, zip(*rows, strict=True), strict=True)), len(rows))


def _unwrapped(value: Any) -> Any:
    """Return the value of a column that is a list of one value for each row."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _mistake(path: Sequence[int | str], detail: str) -> InvalidRows:
    return InvalidRows([(path, detail)], of_form=True)


FORMS: dict[str, Reader] = {
    "dataframe_split": _split,
    "dataframe_records": _instances,
    "instances": _instances,
    "inputs": _inputs,
}
"""Member of a body -> the function that reads rows from it."""
