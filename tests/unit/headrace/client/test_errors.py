import copy
import pickle

import pytest

from headrace.client.errors import InvalidRequest, JobFailed, UnusableAnswer
from headrace.errors import HeadraceError, ModelNotFound

ERRORS = [
    InvalidRequest(422, "invalid_rows", "a row is wrong", 2.0, {"errors": [{"pointer": "/0/x", "detail": "missing"}]}),
    JobFailed("j1", "failed", {"code": "row_rejected", "message": "no", "rows": [1], "count": 3}),
    UnusableAnswer(200, "no JSON", b"<html>"),
    ModelNotFound("no model 'm'"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_comes_back_from_a_pool_of_processes_as_it_was(error: HeadraceError, protocol: int) -> None:
    for back in (pickle.loads(pickle.dumps(error, protocol)), copy.copy(error)):
        assert type(back) is type(error)
        assert (str(back), vars(back)) == (str(error), vars(error))
