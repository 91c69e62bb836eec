"""Prometheus' HTTP interface, as Grafana uses it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

TIMEOUT_SECONDS = 30


class PreviewError(Exception):
    """The reason why there is no picture, in one line for a person."""


class Unreachable(PreviewError):
    """The error if no Prometheus answers."""


class QueryFailed(PreviewError):
    """The error if Prometheus refuses a query."""


@dataclass(frozen=True)
class Series:
    """Labels, and values at times in seconds since 1970; both have the same length."""

    labels: Mapping[str, str]
    times: list[float]
    values: list[float] = field(repr=False)

    def last(self) -> float | None:
        """Return the last value that is not NaN; None if there is none."""
        return next((value for value in reversed(self.values) if not math.isnan(value)), None)


class Prometheus:
    """A client, and a context manager.

    Every method raises Unreachable if nothing answers, and QueryFailed if the query is wrong.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False)

    def __enter__(self) -> "Prometheus":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def range(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        """Return the values of an expression over time, in the order of the labels."""
        asked = {"query": expr, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        found = [_series(each["metric"], each["values"]) for each in self._ask("query_range", asked)["result"]]
        return sorted(found, key=lambda series: sorted(series.labels.items()))

    def instant(self, expr: str, at: float) -> list[Series]:
        """Return the value of an expression at one moment."""
        data = self._ask("query", {"query": expr, "time": f"{at:.3f}"})
        if data["resultType"] == "scalar":
            return [_series({}, [data["result"]])]
        return [_series(each["metric"], [each["value"]]) for each in data["result"]]

    def label_values(self, label: str, selector: str, start: float, end: float) -> list[str]:
        """Return all values of a label of the series that match, sorted."""
        asked = {"start": f"{start:.3f}", "end": f"{end:.3f}"} | ({"match[]": selector} if selector else {})
        return sorted(map(str, self._ask(f"label/{label}/values", asked)))

    def _ask(self, path: str, parameters: Mapping[str, str]) -> Any:
        # Long queries do not fit into a URL, and Prometheus takes no POST for label values.
        way: dict[str, Any] = {"params": parameters} if path.startswith("label/") else {"data": parameters}
        try:
            answer = self._http.request("GET" if "params" in way else "POST", f"{self.url}/api/v1/{path}", **way)
            content = answer.json()
        except httpx.HTTPError as error:
            raise Unreachable(f"no Prometheus answers at {self.url}: {error}") from None
        except ValueError:
            raise Unreachable(f"the server at {self.url} is no Prometheus") from None
        if not isinstance(content, dict) or content.get("status") != "success":
            reason = content.get("error") if isinstance(content, dict) else content
            raise QueryFailed(f"{reason}: {parameters.get('query', path)}")
        return content["data"]


def _series(labels: Mapping[str, str], samples: list[tuple[float, str]]) -> Series:
    return Series(labels, [float(time) for time, _ in samples], [float(value) for _, value in samples])
