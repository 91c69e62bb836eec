"""Rows as a caller would send them, drawn feature by feature: what features have to do with each other is lost."""

from random import Random
from typing import Any

from demo.column import Column
from demo.model import Model, NotServed

Row = dict[str, Any]


class Sampler:
    """Draws rows; two of the same seed draw the same ones.

    Raises:
        NotServed: if the model has no feature called `drifting`, or that can't drift.
    """

    def __init__(self, model: Model, seed: int, drifting: str | None, deviations: float) -> None:
        self._random = Random(seed)
        self._columns = [Column(feature, model.sampled(at)) for at, feature in enumerate(model.features)]
        self._deviations = deviations
        self.drifting = _choose(self._columns, drifting)
        """The feature that drifts; None if there is none that can."""

    def row(self, drift: float = 0.0) -> Row:
        """A row as in training, or drifted with that strength, 0 to 1."""
        return {column.name: self._value(column, drift) for column in self._columns}

    def _value(self, column: Column, drift: float) -> Any:
        if drift and column.name == self.drifting:
            return column.draw_drifted(self._random, self._deviations, drift)
        return column.draw(self._random)


def _choose(columns: list[Column], name: str | None) -> str | None:
    able = [column.name for column in columns if column.can_drift]
    if name is None:
        return next(iter(able), None)
    if name not in able:
        raise NotServed(f"there is no feature {name!r} that could drift; there is {', '.join(able) or 'none'}")
    return name
