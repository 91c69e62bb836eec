import collections
import functools
import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import f_classif
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from headrace.errors import ArtifactInvalid
from headrace.loading.unpickler import unpickle
from tests.support.estimators import CASES
from tests.support.exported import fitted
from tests.unit.headrace.loading.pickles import Reduced, by_name, dumped, objects


@pytest.mark.parametrize("compress", [0, 3])
@pytest.mark.parametrize("case", CASES)
def test_fitted_estimators_are_read(case: str, compress: int) -> None:
    estimator = fitted(case).estimator

    found, size_bytes = unpickle(dumped(estimator, compress))

    assert type(found) is type(estimator)
    assert size_bytes >= len(dumped(estimator))


@pytest.mark.parametrize(
    "held",
    [
        np.log1p,
        np.nan_to_num,
        pd.Series(objects("x", None), dtype=object),
        pd.Categorical.from_codes([0, -1], pd.Index(["u", "v"], dtype=object)),
        pd.array([True, None], dtype="boolean"),
        np.ma.masked_array([1, 2], [True, False]),
        np.random.RandomState(0),
        np.random.default_rng(0),
        objects("a", 1, None, np.float64(1.5), [np.arange(3)]),
        functools.partial(np.clip, a_min=0.0, a_max=1.0),
        collections.OrderedDict(a=1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_estimators_hold_is_read(held: Any) -> None:
    unpickle(dumped(make_pipeline(FunctionTransformer(kw_args={"held": held}), LogisticRegression())))


MARK = "ran"

ATTACKS: dict[str, Callable[[str], Any]] = {
    "a command": lambda path: Reduced(os.system, f"touch {path}"),
    "a process": lambda path: Reduced(subprocess.check_call, ["touch", path]),
    "exec": lambda path: Reduced(exec, f"open({path!r}, 'w').close()"),
    "eval": lambda path: Reduced(eval, f"open({path!r}, 'w').close()"),
    "a file": lambda path: Reduced(open, path, "w"),
    "nested in a step": lambda path: make_pipeline(
        FunctionTransformer(kw_args={"a": [{"b": Reduced(os.system, f"touch {path}")}]}), LogisticRegression()
    ),
    "in the arguments of a call": lambda path: Reduced(
        collections.OrderedDict, [("a", Reduced(os.system, f"touch {path}"))]
    ),
    "as state": lambda path: Reduced(LogisticRegression, state={"coef_": Reduced(os.system, f"touch {path}")}),
    "in an array of objects": lambda path: objects(1, Reduced(os.system, f"touch {path}")),
    "in an array in an array": lambda path: objects(objects(Reduced(os.system, f"touch {path}"))),
    "a partial": lambda path: Reduced(functools.partial, os.system, f"touch {path}"),
    "an unpickler inside": lambda path: Reduced(pickle.loads, pickle.dumps(Reduced(os.system, f"touch {path}"))),
    "joblib inside": lambda path: Reduced(joblib.load, path),
    "NumPy's own file": lambda path: Reduced(np.memmap, path, "u1", "w+", 0, (1,)),
    "NumPy's saving": lambda path: Reduced(np.save, path, 1),
    "pandas' evaluation": lambda path: Reduced(pd.eval, f"@__import__('os').system('touch {path}')"),
    "pandas' pickles": lambda path: Reduced(pd.read_pickle, path),
    "a harmless function": lambda path: Reduced(np.sum, [1]),
    "a public function": lambda path: Reduced(roc_auc_score, [0, 1], [0, 1]),
    "an attribute by name": lambda path: Reduced(getattr, "text", "upper"),
}


@pytest.mark.parametrize("compress", [0, 3])
@pytest.mark.parametrize("attack", ATTACKS)
def test_pickles_that_run_code_are_refused(tmp_path: Path, attack: str, compress: int) -> None:
    content = dumped(ATTACKS[attack](str(tmp_path / MARK)), compress)

    with pytest.raises(ArtifactInvalid, match="not trusted"):
        unpickle(content)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "getattr"),
        ("builtins", "eval"),
        ("builtins", "__import__"),
        ("builtins", "type"),
        ("operator", "attrgetter"),
        ("importlib", "import_module"),
        ("sklearn.base", "warnings.sys.modules"),
        ("sklearn.linear_model", "LogisticRegression.fit"),
        ("sklearn.base", "warnings"),
        ("sklearn.utils._testing", "assert_run_python_script_without_output"),
        ("sklearn.datasets", "fetch_openml"),
        ("sklearn.datasets._base", "load_files"),
        ("numpy", "load"),
        ("numpy", "memmap"),
        ("numpy", "fromfile"),
        ("numpy.testing", "rundocs"),
        ("numpy.lib._datasource", "DataSource"),
        ("joblib", "load"),
        ("joblib.memory", "Memory"),
        ("joblib.externals.cloudpickle.cloudpickle", "_make_function"),
        ("scipy.sparse", "load_npz"),
        ("scipy.stats._distn_infrastructure", "rv_continuous_frozen"),
        ("pandas", "read_pickle"),
        ("pandas", "HDFStore"),
        ("pandas.io.pickle", "read_pickle"),
        ("pandas.core.computation.eval", "eval"),
        ("worker.app", "main"),
        ("antigravity", "geohash"),
    ],
)
def test_names_that_are_refused(module: str, name: str) -> None:
    with pytest.raises(ArtifactInvalid, match=f"it needs {module}.{name}, which is not trusted"):
        unpickle(by_name(module, name))


def test_what_is_refused_is_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ArtifactInvalid, match=r"evil_module\.Model"):
        unpickle(by_name("evil_module", "Model"))


def test_the_names_of_python_2_are_no_way_around() -> None:
    with pytest.raises(ArtifactInvalid, match=r"builtins\.eval"):
        unpickle(b"\x80\x02c__builtin__\neval\n.")
    with pytest.raises(ArtifactInvalid, match="no library writes"):
        unpickle(b"(S'1'\nisklearn.linear_model\nLogisticRegression\n.")


@pytest.mark.parametrize("target", [LogisticRegression, f_classif, np.log1p])
def test_a_pickle_does_not_change_what_others_use(target: Any) -> None:
    content = pickle.dumps(target)[:-1] + b"}\x8c\x04evilK\x01sb."

    with pytest.raises(ArtifactInvalid, match="a change of"):
        unpickle(content)

    assert not hasattr(target, "evil")


def test_modules_that_are_trusted_may_be_used() -> None:
    content = dumped({"counts": Reduced(subprocess.CompletedProcess, [], 0)})

    with pytest.raises(ArtifactInvalid, match=r"subprocess\.CompletedProcess"):
        unpickle(content)

    found, _ = unpickle(content, ["subprocess"])
    assert found["counts"].returncode == 0
    # A module holds its imports too.
    with pytest.raises(ArtifactInvalid, match=r"subprocess\.os"):
        unpickle(by_name("subprocess", "os"), ["subprocess"])
    with pytest.raises(ArtifactInvalid):
        unpickle(by_name("subprocess_like", "run"), ["subprocess"])


def test_texts_of_arrow_need_that_arrow_is_trusted() -> None:
    pytest.importorskip("pyarrow")
    columns = pd.Index(["a", "b"], dtype=pd.StringDtype("pyarrow"))
    content = dumped(ColumnTransformer([("scale", StandardScaler(), columns)]))

    with pytest.raises(ArtifactInvalid, match=r"it needs pyarrow\.lib\.\w+, which is not trusted \(TRUSTED_MODULES"):
        unpickle(content)
    assert list(unpickle(content, ["pyarrow"])[0].transformers[0][2]) == ["a", "b"]


def test_something_after_the_estimator_is_refused() -> None:
    with pytest.raises(ArtifactInvalid, match="follows"):
        unpickle(dumped({"a": 1}) + b"more")


def test_the_size_is_that_without_compression() -> None:
    zeros = np.zeros(1_000_000)

    content = dumped(zeros, compress=3)

    assert len(content) < 100_000
    assert 8_000_000 <= unpickle(content)[1] < 8_010_000
