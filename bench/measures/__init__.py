"""The measures beside the comparison, each a ratio within one run, with a module that describes its method.

Every `measure(scratch, models, pace)` returns one round: name -> figure, as `bench.targets` reads them.
"""

from collections.abc import Callable
from pathlib import Path

from bench.measures import cores, cpu, fairness, forest, generator, jobs, metrics_cost, overload, rows, tensors
from bench.pace import Pace

Measure = Callable[[Path, Path, Pace], dict[str, float]]

MEASURES: dict[str, Measure] = {
    "generator": generator.measure,
    "jobs": jobs.measure,
    "rows": rows.measure,
    "tensors": tensors.measure,
    "cores": cores.measure,
    "cpu": cpu.measure,
    "fairness": fairness.measure,
    "forest": forest.measure,
    "overload": overload.measure,
    "metrics": metrics_cost.measure,
}
