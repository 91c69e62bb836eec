"""Tables of texts, for people."""

from collections.abc import Iterable, Sequence

from headrace.terminal import one_line


class Table:
    """A table that is printed in parts: a column becomes wider where a later part needs it."""

    def __init__(self) -> None:
        self._widths: list[int] = []

    def add(self, rows: Iterable[Sequence[str]]) -> None:
        """Print rows of one length, each on a line of its own."""
        lines = [tuple(map(one_line, row)) for row in rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        self._widths = [*map(max, widths, self._widths)] if self._widths else widths
        for row in lines:
            print("  ".join(f"{cell:<{width}}" for cell, width in zip(row, self._widths, strict=True)).rstrip())


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Print a table of one part."""
    Table().add(rows)
