"""The forms of answers against the gateway's own: its code makes the documents here."""

from dataclasses import replace
from typing import Any, get_args

import orjson
import pytest

from gateway.api.jobs import LISTED_MAX
from gateway.api.responses import job_view, listed_view, result_expired, timing
from gateway.catalog.row_examiner import MISTAKES_MAX
from gateway.jobs.record import Job
from gateway.problems import Problem
from gateway.settings import GatewaySettings
from headrace.client import forms
from headrace.client.answers import BYTES_PER_PART
from headrace.client.exchange import RESPONSE_MAX_BYTES
from shared.queue.contract import JobStatus
from tests.support.job_records import ENDED, QUEUED, RUNNING

SUCCEEDED = replace(ENDED, status=JobStatus.SUCCEEDED)
ERROR = {"code": "row_rejected", "message": "a reason", "rows": [3], "count": 1}
FAILED = replace(ENDED, status=JobStatus.FAILED, outcome_json=orjson.dumps({"error": ERROR}))
OTHERS = [replace(ENDED, status=status) for status in (JobStatus.CANCELLED, JobStatus.EXPIRED)]
ONE = {"prediction": "long", "probabilities": {"short": 0.25, "long": 0.75}}
SEVERAL = {"predictions": ["long"], "probabilities": [{"short": 0.25, "long": 0.75}]}
REST = {"model": "sticks", "version": "v1", "timing": timing(0.001, 0.002, 0.004), "newer": {"a": "member"}}


def read(form: type[forms.Form], document: Any) -> Any:
    return form.model_validate(orjson.loads(orjson.dumps(document)))


def test_predictions_of_a_gateway_are_taken() -> None:
    assert read(forms.Prediction, {**ONE, **REST}).prediction == "long"
    assert read(forms.Prediction, {"prediction": {"a": 1, "b": 2.5}, **REST}).prediction == {"a": 1, "b": 2.5}
    assert read(forms.Predictions, {**SEVERAL, **REST}).predictions == ["long"]


@pytest.mark.parametrize("job", [QUEUED, RUNNING, FAILED, *OTHERS])
def test_jobs_of_a_gateway_are_taken(job: Job) -> None:
    assert read(forms.JobView, job_view(job)).status == job.status
    assert read(forms.JobPage, {"jobs": [listed_view(job)], "next": "3-999"}).jobs[0].id == job.id
    assert read(forms.SubmittedJob, job_view(job)).id == job.id


@pytest.mark.parametrize("result", [ONE, SEVERAL, {"prediction": None}])
def test_a_job_that_succeeded_has_a_result(result: dict[str, Any]) -> None:
    assert read(forms.JobView, job_view(SUCCEEDED, result)).status == "succeeded"
    assert read(forms.JobPage, {"jobs": [listed_view(SUCCEEDED)]}).next is None
    with pytest.raises(ValueError, match="a job that succeeded has a result"):
        read(forms.JobView, job_view(SUCCEEDED))


def test_a_job_without_its_result_is_a_problem() -> None:
    problem = result_expired(replace(SUCCEEDED, result_dropped=True))

    assert forms.Problem.model_validate_json(problem.body()).type == "urn:headrace:problem:result_expired"


def test_wrong_values_are_read_from_a_problem() -> None:
    mistakes = [{"pointer": "/age", "detail": "missing"}, {"parameter": "wait", "detail": "too long"}]
    body = Problem(422, "invalid_rows", "a reason", extra={"errors": mistakes}).body()

    assert [each.pointer or each.parameter for each in forms.Problem.model_validate_json(body).errors] == [
        "/age",
        "wait",
    ]


def test_the_limits_are_those_of_the_gateway() -> None:
    assert set(get_args(forms.Status)) == {status.value for status in JobStatus}
    assert forms.PAGE_JOBS == LISTED_MAX
    # A gateway of an earlier release names more.
    assert forms.MISTAKES_MAX >= MISTAKES_MAX
    largest = GatewaySettings.model_fields["answer_max_bytes"].default
    assert largest * 2 == RESPONSE_MAX_BYTES
    assert largest / 8 == RESPONSE_MAX_BYTES / BYTES_PER_PART
