"""Tables out of answers, through the transformations that a panel names."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from monitoring.preview.answers import Answer
from monitoring.preview.dashboard import Panel
from monitoring.preview.prometheus import PreviewError

Cell = str | float | None
Row = dict[str, Cell]


class Unsupported(PreviewError):
    """Something that Grafana does and this does not."""


class Frame:
    """Columns in order, and rows that may lack some."""

    def __init__(self, columns: Iterable[str], rows: Iterable[Row]) -> None:
        self.columns = list(dict.fromkeys(columns))
        self.rows = list(rows)

    def column(self, name: str) -> list[Cell]:
        """The cells of a column, from top to bottom."""
        return [row.get(name) for row in self.rows]


def frame_of(panel: Panel, answers: Sequence[Answer]) -> Frame:
    """The table of a panel whose queries have the form `table`.

    Raises:
        Unsupported: if a transformation is not known here.
    """
    several = len(panel.targets) > 1
    labels = sorted({label for answer in answers for label in answer.series.labels})
    values = [_value(target.ref_id, several) for target in panel.targets]
    rows = [
        {**answer.series.labels, _value(answer.ref_id, several): answer.series.last()}
        for answer in answers
    ]  # fmt: skip
    frame = Frame(["Time", *labels, *values], rows)
    for step in panel.transformations:
        if step["id"] not in _STEPS:
            raise Unsupported(f"the transformation {step['id']} of {panel.title} is not known here")
        frame = _STEPS[step["id"]](frame, step.get("options", {}))
    return sorted_by(frame, [(by["displayName"], bool(by.get("desc"))) for by in panel.options.get("sortBy") or ()])


def sorted_by(frame: Frame, keys: Sequence[tuple[str, bool]]) -> Frame:
    """Rows in the order of some columns, the first of which counts most; each is (name, whether descending)."""
    rows = list(frame.rows)
    for name, descending in reversed(keys):
        there = [row for row in rows if row.get(name) is not None]
        there.sort(key=lambda row: _order(row[name]), reverse=descending)
        rows = there + [row for row in rows if row.get(name) is None]
    return Frame(frame.columns, rows)


def _value(ref_id: str, several: bool) -> str:
    return f"Value #{ref_id}" if several else "Value"


def _order(cell: Cell) -> tuple[bool, float, str]:
    """Numbers before texts; texts that are numbers as such."""
    try:
        return False, float(cell if cell is not None else "nan"), ""
    except ValueError:
        return True, 0.0, str(cell)


def _merged(frame: Frame, options: Mapping[str, Any]) -> Frame:
    """Rows that agree in all columns that both have become one."""
    rows: list[Row] = []
    for row in frame.rows:
        for other in rows:
            shared = row.keys() & other.keys()
            if all(row[name] == other[name] for name in shared):
                other.update(row)
                break
        else:
            rows.append(dict(row))
    return Frame(frame.columns, rows)


def _organized(frame: Frame, options: Mapping[str, Any]) -> Frame:
    """Columns left out, put in order and renamed."""
    hidden, order, names = (options.get(key) or {} for key in ("excludeByName", "indexByName", "renameByName"))
    columns = [name for name in frame.columns if not hidden.get(name)]
    columns.sort(key=lambda name: order.get(name, len(order) + len(columns)))
    rows = [{names.get(name) or name: cell for name, cell in row.items()} for row in frame.rows]
    return Frame([names.get(name) or name for name in columns], rows)


def _sorted(frame: Frame, options: Mapping[str, Any]) -> Frame:
    return sorted_by(frame, [(by["field"], bool(by.get("desc"))) for by in options.get("sort", ())])


_STEPS = {"merge": _merged, "organize": _organized, "sortBy": _sorted}
