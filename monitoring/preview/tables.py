"""Tables out of answers, through the transformations that a panel names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monitoring.preview.dashboard import Panel
from monitoring.preview.prometheus import PreviewError
from monitoring.preview.queries import Answer

Cell = str | float | None
Row = dict[str, Cell]


@dataclass(frozen=True)
class Table:
    """Columns in order, and rows that may lack some."""

    columns: list[str]
    rows: list[Row]

    def column(self, name: str) -> list[Cell]:
        """Return the cells of a column, from top to bottom."""
        return [row.get(name) for row in self.rows]

    def is_numeric(self, name: str) -> bool:
        """Return True if the column holds numbers and no texts."""
        cells = [cell for cell in self.column(name) if cell is not None]
        return bool(cells) and all(isinstance(cell, float) for cell in cells)


def table_of(panel: Panel, answers: Sequence[Answer]) -> Table:
    """Return the table of a panel.

    Raises:
        PreviewError: if a transformation is not known here.
    """
    several = len(panel.targets) > 1
    names = {target.ref_id: f"Value #{target.ref_id}" if several else "Value" for target in panel.targets}
    labels = sorted({label for answer in answers for label in answer.series.labels})
    rows: list[Row] = [{**each.series.labels, names[each.ref_id]: each.series.last()} for each in answers]
    table = Table(["Time", *labels, *names.values()], rows)
    for step in panel.transformations:
        if step["id"] not in _STEPS:
            raise PreviewError(f"the transformation {step['id']} of {panel.title} is not known here")
        table = _STEPS[step["id"]](table, step.get("options", {}))
    return _sorted(table, {"sort": [{**by, "field": by["displayName"]} for by in panel.options.get("sortBy") or ()]})


def _merged(table: Table, _: Mapping[str, Any]) -> Table:
    """Join rows that agree in all columns that both have."""
    rows: list[Row] = []
    for row in table.rows:
        same = (other for other in rows if all(row[name] == other[name] for name in row.keys() & other.keys()))
        other = next(same, None)
        if other is None:
            rows.append(dict(row))
        else:
            other.update(row)
    return Table(table.columns, rows)


def _organized(table: Table, options: Mapping[str, Any]) -> Table:
    """Leave columns out, put the others in order, and rename them."""
    hidden, order, names = (options.get(key) or {} for key in ("excludeByName", "indexByName", "renameByName"))
    columns = [name for name in table.columns if not hidden.get(name)]
    columns.sort(key=lambda name: order.get(name, len(order) + len(columns)))
    rows = [{names.get(name) or name: cell for name, cell in row.items()} for row in table.rows]
    return Table([names.get(name) or name for name in columns], rows)


def _sorted(table: Table, options: Mapping[str, Any]) -> Table:
    """Sort by columns, the first of which counts most; rows without a value come last."""
    rows = table.rows
    for by in reversed(options.get("sort", ())):
        there = [row for row in rows if row.get(by["field"]) is not None]
        there.sort(key=lambda row: _order(row[by["field"]]), reverse=bool(by.get("desc")))
        rows = there + [row for row in rows if row.get(by["field"]) is None]
    return Table(table.columns, rows)


def _order(cell: Cell) -> tuple[bool, float, str]:
    """Return a key that sorts numbers before texts, and texts that are numbers as numbers."""
    try:
        return False, float(cell if cell is not None else "nan"), ""
    except ValueError:
        return True, 0.0, str(cell)


_STEPS = {"merge": _merged, "organize": _organized, "sortBy": _sorted}
