import collections
import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer

from headrace.exporting.pickled import foreign_names, imported_names
from headrace.loading import unpickler


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_names_are_read_whatever_the_protocol(protocol: int) -> None:
    values = [collections.OrderedDict(a=1), collections.Counter("aab"), collections.OrderedDict(b=2)]

    names = imported_names(pickle.dumps(values, protocol))

    assert {("collections", "OrderedDict"), ("collections", "Counter")} <= names


def test_nothing_is_executed() -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return pytest.fail.__class__, ("executed",)

    assert foreign_names(pickle.dumps(Trap(), 4)) == ["_pytest.outcomes._Fail"]


def test_a_repeated_module_is_fetched_from_the_memo() -> None:
    content = pickle.dumps([np.float32, np.float64, np.int8, LogisticRegression, FunctionTransformer], 4)

    assert imported_names(content) == {
        ("numpy", "float32"),
        ("numpy", "float64"),
        ("numpy", "int8"),
        ("sklearn.linear_model._logistic", "LogisticRegression"),
        ("sklearn.preprocessing._function_transformer", "FunctionTransformer"),
    }


def test_extra_modules_are_packages_and_all_that_is_in_them() -> None:
    content = pickle.dumps([unpickler.unpickle], 4)

    assert foreign_names(content) == ["headrace.loading.unpickler.unpickle"]
    assert foreign_names(content, ["headrace"]) == []
    assert foreign_names(content, ["head"]) == ["headrace.loading.unpickler.unpickle"]


def test_functions_of_numpy_are_taken_if_they_are_harmless() -> None:
    assert foreign_names(pickle.dumps([np.log1p, np.clip, np.float32], 4)) == []
    assert foreign_names(pickle.dumps([np.fromfile, np.apply_along_axis], 4)) != []
