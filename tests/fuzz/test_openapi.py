"""The gateway behaves as its OpenAPI document says, whatever the request."""

import sys

import pytest

from tests.support.requirements import require
from tests.support.stack import Stack

OPERATIONS = 46


@pytest.mark.timeout(900)
def test_the_gateway_keeps_its_word(stack: Stack, examples: int, seed: int) -> None:
    require(sys.version_info >= (3, 11), "schemathesis needs Python 3.11 or newer")
    from tests.fuzz.campaign import run

    pids = (stack.gateway.pid, *(worker.pid for worker in stack.workers))
    findings = run(stack.url, {"Authorization": stack.http.headers["Authorization"]}, examples, seed)
    print(findings)

    assert not findings.failures, "\n\n".join(findings.failures)
    assert {*findings.phases.values()} == {"success"}, findings.phases
    assert len(findings.operations) == OPERATIONS
    assert findings.cases >= 500
    assert {200, 202, 204, 401, 404, 405, 415, 422} <= set(findings.statuses)
    assert (stack.gateway.pid, *(worker.pid for worker in stack.workers)) == pids
    assert "Traceback" not in stack.logs()
