"""The claims of the project as ratios within one run: the least that must hold, and the aim."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.results import Results
from bench.systems import BENTOML, HEADRACE, LITSERVE, MLSERVER, MOSEC, NAIVE, PLAIN

Figure = Callable[[Results], float | None]


@dataclass(frozen=True)
class Target:
    """One claim."""

    measure: str
    figure: Figure
    """Function from results to the ratio; None if one of its parts was not measured."""

    at_least: float
    aim: float
    unit: str = "x"
    more_is_better: bool = True

    def verdict(self, results: Results) -> str:
        """Return `aim`, `met`, `missed` or `not measured`."""
        value = self.figure(results)
        if value is None:
            return "not measured"
        sign = 1 if self.more_is_better else -1
        if sign * value >= sign * self.aim:
            return "aim"
        return "met" if sign * value >= sign * self.at_least else "missed"


def _ratio(over: Figure, under: Figure) -> Figure:
    def figure(results: Results) -> float | None:
        above, below = over(results), under(results)
        return above / below if above is not None and below else None

    return figure


def _rate(system: str, connections: int) -> Figure:
    return lambda results: results.rate(system, connections)


def _p50(system: str) -> Figure:
    return lambda results: results.p50_seconds(system, 1)


def _measure(name: str) -> Figure:
    return lambda results: results.measure(name)


def _measured(over: str, under: str) -> Figure:
    return _ratio(_measure(over), _measure(under))


def _rates(connections: int, peer: str, at_least: float, aim: float) -> Target:
    label = f"`/predict`, {connections} connections, requests/s of {peer}"
    return Target(label, _ratio(_rate(HEADRACE, connections), _rate(peer, connections)), at_least, aim)


def _latency(peer: str, at_most: float, aim: float) -> Target:
    label = f"`/predict`, 1 connection, p50 of {peer}"
    return Target(label, _ratio(_p50(HEADRACE), _p50(peer)), at_most, aim, more_is_better=False)


def _tail(results: Results) -> float | None:
    p50, p99 = results.p50_seconds(HEADRACE, 64), results.p99_seconds(HEADRACE, 64)
    return p99 / p50 if p50 and p99 is not None else None


def _metrics_cost(results: Results) -> float | None:
    with_, without = results.measure("metrics.with_per_second"), results.measure("metrics.without_per_second")
    return 100 * (1 - with_ / without) if with_ is not None and without else None


def _milliseconds(name: str) -> Figure:
    def figure(results: Results) -> float | None:
        seconds = results.measure(name)
        return 1000 * seconds if seconds is not None else None

    return figure


def _second_child(results: Results) -> float | None:
    added, model = results.measure("forest.second_child_bytes"), results.measure("forest.model_bytes")
    return 100 * added / model if added is not None and model else None


TARGETS: Sequence[Target] = (
    _rates(64, PLAIN, 4, 4),
    _rates(64, NAIVE, 20, 20),
    _rates(64, LITSERVE, 12, 20),
    _rates(64, BENTOML, 12, 20),
    _rates(64, MLSERVER, 12, 20),
    _rates(64, MOSEC, 1, 1.5),
    _rates(256, MOSEC, 1, 1.3),
    _latency(NAIVE, 0.5, 0.5),
    _latency(MOSEC, 0.5, 0.5),
    Target("`/predict`, 1 connection, p50 of the plain app", _ratio(_p50(HEADRACE), _p50(PLAIN)), 1.3, 0.9, "x", False),
    Target("p99 of p50 at 64 connections", _tail, 3, 2, "x", False),
    Target(
        "`POST /jobs`, 64 connections, 202s/s of an endpoint that calls `delay()`",
        _measured("jobs.submitted_per_second", "jobs.delay_per_second"),
        5,
        10,
    ),
    Target(
        "draining single-row jobs, one worker, jobs/s of a naive Celery worker",
        _measured("jobs.drained_per_second", "jobs.naive_drained_per_second"),
        8,
        20,
    ),
    Target(
        "1,000 rows in one `/predict`, rows/s of parsing plus `predict_proba` in one process",
        _measured("rows.per_second", "rows.in_process_per_second"),
        0.5,
        0.8,
    ),
    Target(
        "10,000 rows in one request: rows/s as bytes of float64, of those as JSON objects",
        _measured("tensors.bytes_per_second", "tensors.instances_per_second"),
        5,
        5,
    ),
    Target(
        "10,000 rows in one request: rows/s as bytes, of MLServer that adds them up as JSON",
        _measured("tensors.bytes_per_second", "tensors.mlserver_json_per_second"),
        5,
        5,
    ),
    Target(
        "interactive p95 while bulk saturates the workers, of idle",
        _measured("fairness.busy_p95_seconds", "fairness.idle_p95_seconds"),
        2,
        1.5,
        "x",
        False,
    ),
    Target(
        "CPU-heavy model, two pool children of one",
        _measured("forest.two_children_rows_per_second", "forest.one_child_rows_per_second"),
        1.8,
        1.95,
    ),
    Target(
        "CPU-heavy model, two workers of one",
        _measured("forest.two_workers_rows_per_second", "forest.one_child_rows_per_second"),
        1.8,
        1.95,
    ),
    Target("memory that a second pool child adds, of the model", _second_child, 15, 5, " %", False),
    Target(
        "three times the peak: good answers per second of the peak",
        _measured("overload.goodput_per_second", "overload.peak_per_second"),
        0.9,
        0.95,
    ),
    Target(
        "three times the peak: p99 of the admitted, of their deadline",
        _measured("overload.admitted_p99_seconds", "overload.deadline_seconds"),
        1,
        1,
        "x",
        False,
    ),
    Target(
        "three times the peak: p99 until a refusal, in ms",
        _milliseconds("overload.rejected_p99_seconds"),
        50,
        20,
        " ms",
        False,
    ),
    Target("seconds until all is as before", _measure("overload.recovery_seconds"), 5, 2, " s", False),
    Target("cost of all metrics, of throughput", _metrics_cost, 8, 5, " %", False),
)
