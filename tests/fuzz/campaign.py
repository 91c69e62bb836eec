"""A run of schemathesis against a gateway, with its requests, its failures, and the failures that are intended.

schemathesis takes the gateway's OpenAPI document literally: it sends requests that fit it and that do not, at the edges
and at random, and chains of them along its links. All its checks are on; failures that are intended are dropped one by
one, below.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis import engine
from schemathesis.core.failures import Failure, ServerError
from schemathesis.engine.events import EngineEvent, FatalError, NonFatalError, PhaseFinished, ScenarioFinished
from schemathesis.engine.statistic import Statistic
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

SHOWN_CHARACTERS = 1500

HUGE = 1e100
"""Magnitude beyond which a model may overflow, as the linear one of the tests does."""

SHORT_SECONDS = 5.0
"""Deadline in seconds that may pass before a busy machine has answered."""


OF_PROTOCOLS = frozenset(["invalid_json", "invalid_rows", "invalid_tensors", "not_supported"])
"""Problems of bodies on the routes of other servers, whose document says little of them."""


@dataclass
class Findings:
    """The result of a run."""

    cases: int = 0
    operations: set[str] = field(default_factory=set)
    """Operations that were asked, as `POST /jobs`."""
    statuses: Counter[int] = field(default_factory=Counter)
    phases: dict[str, str] = field(default_factory=dict)
    """Name of a phase -> its result."""
    failures: list[str] = field(default_factory=list)
    """Failures, with the command that repeats each."""
    meant: Counter[str] = field(default_factory=Counter)
    """Number of intended failures by their reason."""

    def __str__(self) -> str:
        statuses = ", ".join(f"{status}: {n}" for status, n in sorted(self.statuses.items()))
        meant = "".join(f"\n  meant, {n} times: {reason}" for reason, n in sorted(self.meant.items()))
        return (
            f"{self.cases} cases of {len(self.operations)} operations, {len(self.failures)} failures; {statuses}{meant}"
        )


def run(url: str, headers: Mapping[str, str], examples: int, seed: int) -> Findings:
    """Send requests that the gateway's document allows and forbids, with this many examples per operation and phase."""
    config = schemathesis.Config.from_dict(
        {
            "seed": seed,
            "headers": dict(headers),
            "request-timeout": 30,
            # A busy machine is not a failure of the gateway.
            "suppress-health-check": ["all"],
            "continue-on-failure": True,
            "generation": {"max-examples": examples, "database": "none"},
            # 413 is a refusal too. Server errors are examined in every answer.
            "checks": {"negative_data_rejection": {"expected-statuses": ["4xx", "5xx"]}},
        }
    )
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    findings, statistic = Findings(), Statistic()

    @schema.hook("filter_failure")
    def is_not_meant(_: Any, failure: Failure, case: Any, response: Any) -> bool:
        reason = why_meant(failure, case, response)
        if reason is not None:
            findings.meant[reason] += 1
        return reason is None

    for event in engine.from_schema(schema).execute():
        _take(event, findings, statistic)
    findings.cases, findings.operations = statistic.total_cases, statistic.tested_operations
    findings.failures += _failure_texts(statistic)
    return findings


def why_meant(failure: Failure, case: Any, response: Any) -> str | None:
    """Return the reason why an answer is right although a check failed, or None if it is wrong."""
    kind = _problem(response)
    if isinstance(failure, ServerError):
        asked_seconds = _number((case.query or {}).get("deadline"))
        if kind in ("deadline_exceeded", "overloaded") and asked_seconds < SHORT_SECONDS:
            return "503 or 504 for who asks for less time than it takes"
    if isinstance(failure, RejectedPositiveData):
        return _why_refused(kind, case)
    if isinstance(failure, UseAfterFree) and response.status_code == 200 and response.json()["status"] == "cancelled":
        return "a job that was cancelled can be looked up as long as any other"
    return None


def _why_refused(kind: str, case: Any) -> str | None:
    path = case.operation.path
    if kind == "row_rejected" and any(abs(number) > HUGE for number in _numbers(case.body)):
        return "422 where the model has no finite answer to huge numbers"
    if kind == "idempotency_key_reused":
        return "422 for a key that has come with other rows"
    if kind == "too_large":
        return "413 for rows that are fine, and too many"
    if kind == "invalid_rows" and path.startswith("/models/{name}/"):
        return "422 where the document can't say what rows a model takes"
    if kind in OF_PROTOCOLS and path.startswith(("/v1/", "/v2/", "/invocations")):
        return "400 or 422 where another server's protocol says what a body is"
    if kind == "invalid_parameter" and "Prefer" in (case.headers or {}) and path.endswith("/predict"):
        return "422 for a key that is none, where it matters because of Prefer"
    return None


def _problem(response: Any) -> str:
    if response.headers.get("content-type") not in (["application/problem+json"], ["application/json"]):
        return ""
    content = response.json()
    kind: str = content.get("type", "") if isinstance(content, dict) else ""
    return kind.removeprefix("urn:headrace:problem:")


def _number(value: Any) -> float:
    """Return the number, or NaN, which compares as false."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _numbers(each)
    elif isinstance(value, int | float):
        yield value


def _take(event: EngineEvent, findings: Findings, statistic: Statistic) -> None:
    if isinstance(event, ScenarioFinished):
        statistic.on_scenario_finished(event.recorder, failure_label=lambda case: case.operation.label)
        findings.statuses.update(
            interaction.response.status_code
            for interaction in event.recorder.interactions.values()
            if interaction.response is not None
        )
    elif isinstance(event, PhaseFinished):
        findings.phases[event.phase.name.value] = event.status.value
    elif isinstance(event, NonFatalError):
        findings.failures.append(f"{event.label}: {event.value!r}")
    elif isinstance(event, FatalError):
        raise event.exception


def _failure_texts(statistic: Statistic) -> Iterator[str]:
    for operation, groups in statistic.failures.items():
        for group in groups.values():
            answer = f"{group.response.status_code} {group.response.text}" if group.response is not None else ""
            for failure in group.failures:
                parts = (operation, str(failure), answer, group.code_sample or "")
                yield "\n".join(text[:SHOWN_CHARACTERS] for text in parts if text)
