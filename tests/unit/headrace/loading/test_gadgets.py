"""Shapes of pickles that would make the libraries of an estimator run code, open files or leave their arrays.

Each is refused before any part of it runs. A shape is refused by the mechanism that it tests, so the parts around that
part are harmless.
"""

import collections
import functools
import operator
import os
import pickle
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingRegressor, StackingClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, PairwiseKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import DistanceMetric, accuracy_score, get_scorer, make_scorer
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multioutput import ClassifierChain
from sklearn.neighbors import KDTree, KernelDensity, KNeighborsClassifier, KNeighborsTransformer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, StandardScaler, normalize
from sklearn.svm import SVC
from sklearn.utils import Bunch

from headrace.errors import ArtifactInvalid
from headrace.loading.unpickler import unpickle
from tests.unit.headrace.loading.pickles import Made, Named, Reduced, dumped, objects, pickled, with_state

FRAME = pd.DataFrame({1: [1]})

MAKER, ARGS, STATE = pd.Categorical.from_codes([0], pd.Index(["a"], dtype=object)).__reduce__()

NEVER = pytest.fail
"""A function that no pickle may call, of a module that no pickle may name."""


def calling(function: Any, **arguments: Any) -> Any:
    return make_pipeline(FunctionTransformer(function, kw_args=arguments), LogisticRegression())


def command(path: str) -> str:
    return f"touch {path}"


RUNS: dict[str, Callable[[str], Any]] = {
    "operator.call": lambda path: Reduced(Named("operator", "call"), os.system, command(path)),
    "methodcaller": lambda path: Reduced(operator.methodcaller("touch"), Path(path)),
    "attrgetter": lambda path: Reduced(operator.attrgetter("parent"), Path(path)),
    "functools.reduce": lambda path: Reduced(functools.reduce, os.system, [command(path)], ""),
    "map": lambda path: Reduced(list, Reduced(map, os.system, [command(path)])),
    "a partial of a partial": lambda path: Reduced(functools.partial(functools.partial(os.system, command(path)))),
    "a partial with another state": lambda path: Reduced(
        functools.partial, np.clip, state=(os.system, (command(path),), {}, None)
    ),
    "a default factory": lambda path: Reduced(
        operator.getitem, collections.defaultdict(functools.partial(os.system, command(path))), "a"
    ),
    "a ufunc from a function": lambda path: Reduced(np.frompyfunc, os.system, 1, 1),
    "a vectorized function": lambda path: Reduced(np.vectorize(os.system), command(path)),
    "a function along an axis": lambda path: Reduced(np.apply_along_axis, os.system, 0, [command(path)]),
    "a function over parts": lambda path: Reduced(np.piecewise, [1.0], [True], [os.system]),
    "an array from a function": lambda path: Reduced(np.fromfunction, os.system, (1,)),
    "a method by reduce": lambda path: Reduced(
        pd.DataFrame({"a": [1]}).eval, f"@pd.io.common.os.system('touch {path}')"
    ),
    "query": lambda path: Reduced(pd.DataFrame({"a": [1]}).query, f"@pd.io.common.os.system('touch {path}') == a"),
    "pipe": lambda path: Reduced(pd.Series([command(path)]).pipe, os.system),
    "apply": lambda path: Reduced(pd.Series([command(path)]).apply, os.system),
    "map of a series": lambda path: Reduced(pd.Series([command(path)]).map, os.system),
    "pickles of pandas": lambda path: Reduced(FRAME.to_pickle, path),
    "a file of pandas": lambda path: Reduced(FRAME.to_csv, path),
    "a memory of joblib": lambda path: Reduced(joblib.Memory, path),
    "a file of joblib": lambda path: Reduced(joblib.dump, 1, path),
    "a call of joblib": lambda path: Reduced(
        joblib.parallel.BatchedCalls, [joblib.delayed(os.system)(command(path))], 1
    ),
    "a transformer's function": lambda path: calling(os.system),
    "a scorer": lambda path: Reduced(make_scorer(os.system), 1, 2, 3),
    "a bit generator's maker": lambda path: Reduced(
        Named("numpy.random._pickle", "__randomstate_ctor"), command(path), os.system
    ),
    "a generator's maker": lambda path: Reduced(Named("numpy.random._pickle", "__generator_ctor"), path, Path),
    "a base class that is called": lambda path: Reduced(Named("copyreg", "_reconstructor"), Path, Path, path),
    "a codec": lambda path: Reduced(Named("_codecs", "encode"), path, "evil_codec"),
    "a memory map": lambda path: Reduced(np.memmap, path, "u1", "w+", 0, (1,)),
}
"""Shapes that run when they are read, or would if a function were on the list."""


@pytest.mark.parametrize("shape", RUNS)
def test_nothing_runs_while_a_pickle_is_read(tmp_path: Path, shape: str) -> None:
    content = pickled(RUNS[shape](str(tmp_path / "ran")))

    with pytest.raises(ArtifactInvalid, match="not trusted"):
        unpickle(content)

    assert list(tmp_path.iterdir()) == []


NAMES = """
_ctypes.dlopen builtins.__build_class__ builtins.compile builtins.exec builtins.globals builtins.type code.interact
codecs.open copyreg.__newobj__ ctypes.CDLL functools.cached_property functools.partialmethod functools.reduce
importlib.import_module inspect.getattr_static itertools.starmap operator.attrgetter operator.itemgetter
operator.methodcaller pickle.loads runpy.run_path shutil.rmtree types.CodeType types.FunctionType types.MethodType
types.SimpleNamespace weakref.finalize
joblib.Memory joblib.Parallel joblib.delayed joblib.load joblib.externals.cloudpickle.loads joblib.memory.MemorizedFunc
joblib.numpy_pickle.NumpyUnpickler joblib.numpy_pickle_compat.NDArrayWrapper joblib.numpy_pickle_compat.ZNDArrayWrapper
numpy.apply_along_axis numpy.frompyfunc numpy.fromfile numpy.fromregex numpy.genfromtxt numpy.load numpy.memmap.flush
numpy.piecewise numpy.save numpy.set_printoptions numpy.vectorize numpy._core._internal._ctypes
numpy._core.multiarray.fromfile numpy._core.multiarray.set_typeDict numpy._core.records.fromfile
numpy.lib._npyio_impl.NpzFile numpy.ma.core.MaskedConstant numpy.ma.core._MaskedUnaryOperation numpy.random.mtrand.seed
numpy.random._generator.default_rng numpy.random.mtrand._rand
pandas.eval pandas.read_csv pandas.read_pickle pandas.ExcelFile pandas.HDFStore pandas.core.apply.frame_apply
pandas.core.computation.eval.eval pandas.core.computation.expr.Expr pandas.core.computation.scope.Scope
pandas.core.frame.DataFrame.eval pandas.core.groupby.DataFrameGroupBy pandas.core.common.pipe
pandas.core.accessor.CachedAccessor pandas.compat.pickle_compat.load pandas.io.pickle.read_pickle pandas.MultiIndex
scipy.LowLevelCallable scipy.interpolate.interp1d scipy.io.loadmat scipy.optimize.minimize scipy.sparse.load_npz
scipy.stats.norm scipy.stats._distn_infrastructure.rv_frozen
skops.io.load sklearn.base.clone sklearn.base._fit_context sklearn.callback.ScoringMonitor sklearn.datasets.fetch_openml
sklearn.datasets.load_svmlight_file sklearn.externals._packaging.version.Version sklearn.metrics.make_scorer
sklearn.metrics.accuracy_score sklearn.metrics._scorer._Scorer sklearn.metrics._scorer._MultimetricScorer
sklearn.metrics._scorer.get_scorer sklearn.metrics.pairwise.pairwise_distances sklearn.pipeline._fit_transform_one
sklearn.utils._testing.assert_run_python_script_without_output sklearn.utils._mocking.MockDataFrame
sklearn.utils.fixes.parse_version sklearn.utils.metaestimators.available_if sklearn.utils.parallel._FuncWrapper
sklearn.utils.parallel.Parallel sklearn.utils.validation.check_memory sklearn.utils.deprecation.deprecated
"""


@pytest.mark.parametrize("path", NAMES.split())
def test_functions_and_classes_that_could_run_others_have_no_name(path: str) -> None:
    module, _, name = path.rpartition(".")

    with pytest.raises(ArtifactInvalid, match="not trusted"):
        unpickle(pickled({"a": Named(module, name)}))


class Fake:
    """A class that a pickle may not name."""


def doubled(levels: int) -> Any:
    """Return a tuple that holds another twice, which does so in turn."""
    inner: Any = ()
    for _ in range(levels):
        inner = (inner, inner)
    return inner


STATES: dict[str, Callable[[], Any]] = {
    "an array protocol": lambda: with_state(StandardScaler(), __array__=np.log1p),
    "another array protocol": lambda: with_state(StandardScaler(), __array_interface__={"data": (0, False)}),
    "a ufunc protocol": lambda: with_state(RBF(), __array_ufunc__=None),
    "a length": lambda: with_state(LogisticRegression(), __len__=np.sum),
    "a reduction": lambda: with_state(LogisticRegression(), __reduce__=np.sum),
    "a state setter": lambda: with_state(LogisticRegression(), __setstate__=np.sum),
    "another class": lambda: Made(LogisticRegression, {"__class__": 1}),
    "another class in a slot": lambda: Made(RBF, ({}, {"__class__": 1})),
    "slots": lambda: Made(RBF, (None, {"length_scale": 1.0})),
    "the dictionary itself": lambda: Made(LogisticRegression, {"__dict__": {}}),
    "a method": lambda: with_state(LogisticRegression(), predict=np.log1p),
    "a method that is there for some": lambda: with_state(Pipeline([("a", None)]), transform=np.log1p),
    "a name that is no text": lambda: Made(LogisticRegression, {1: 2}),
    "attributes in a tuple": lambda: Reduced(MAKER, *ARGS, state=(*STATE, {"__len__": np.sum})),
    "attributes of native code": lambda: Reduced(MAKER, *ARGS[:2], (*STATE, {"__len__": np.sum})),
    "no attributes": lambda: Made(RBF, [1, 2]),
    "a class as a function": lambda: calling(LogisticRegression),
    "a class in a list": lambda: calling(None, classes=[LogisticRegression]),
    "a class in an array": lambda: calling(None, classes=objects(pd.DataFrame)),
    "a maker as a function": lambda: calling(Named("numpy._core.multiarray", "_reconstruct")),
    "a maker in a dictionary": lambda: calling(None, a={"b": [Named("pandas.core.indexes.base", "_new_Index")]}),
    "a maker as a key": lambda: calling(None, a={Named("pandas.core.indexes.base", "_new_Index"): 1}),
    "a maker as a default": lambda: collections.defaultdict(LogisticRegression),
    "a scorer": lambda: make_scorer(accuracy_score),
    "a scorer in a partial": lambda: functools.partial(get_scorer("accuracy"), None),
    "a partial with arguments": lambda: functools.partial(np.clip, LogisticRegression()),
    "a partial with objects": lambda: functools.partial(np.clip, a_min=LogisticRegression()),
    "a partial of a kernel": lambda: functools.partial(RBF()),
    "a partial of a class": lambda: functools.partial(dict),
    "a namespace": lambda: types.SimpleNamespace(predict=np.log1p),
    "a frame with attributes": lambda: Made(pd.DataFrame, {**FRAME.__getstate__(), "predict": np.log1p}),
    "a series with attributes": lambda: Made(pd.Series, {**FRAME[1].__getstate__(), "__array__": np.log1p}),
    "a frame with other metadata": lambda: Made(pd.DataFrame, {**FRAME.__getstate__(), "_metadata": ["eval"]}),
    "an attribute of a bunch": lambda: Bunch(**{"__array__": np.log1p}),
    "a cache of a pipeline": lambda: Pipeline([("a", StandardScaler())], memory="/tmp"),
    "a memory of a pipeline": lambda: Pipeline([("a", StandardScaler())], memory=joblib.Memory(None)),
    "a method of arrays": lambda: with_state(
        StackingClassifier([]), estimators_=[np.zeros(3)], stack_method_=["tofile"]
    ),
    "a method whose hash takes for ever": lambda: with_state(StackingClassifier([]), stack_method_=[doubled(60)]),
    "a method of frames": lambda: with_state(
        ClassifierChain(LogisticRegression()), estimators_=[FRAME], chain_method_="eval"
    ),
    "another response": lambda: FixedThresholdClassifier(LogisticRegression(), response_method="fit"),
    "files as texts": lambda: CountVectorizer(input="filename"),
    "open files as texts": lambda: HashingVectorizer(input="file"),
    "a tokenizer": lambda: CountVectorizer(tokenizer=NEVER),
    "a preprocessor": lambda: CountVectorizer(preprocessor=os.system),
    "an analyzer": lambda: CountVectorizer(analyzer=subclass_of_text),
    "a kernel": lambda: SVC(kernel=os.path.join),
    "a metric": lambda: KNeighborsClassifier(metric=NEVER),
    "weights": lambda: KNeighborsClassifier(weights=eval),
    "an inverse": lambda: FunctionTransformer(inverse_func=NEVER),
    "a function that would write into rows": lambda: SVC(kernel=np.positive),
    "a partial that would write into rows": lambda: SVC(kernel=functools.partial(np.positive, where=True)),
    "an argument that would write into rows": lambda: KNeighborsClassifier(
        metric="pyfunc", metric_params={"func": np.positive}
    ),
    "a metric that would write into rows": lambda: DistanceMetric.get_metric("pyfunc", func=np.positive),
    "a metric with an output": lambda: DistanceMetric.get_metric("pyfunc", func=np.vecdot, out=np.zeros(1)),
    "a class of no list": lambda: Fake(),
    "arguments for an estimator": lambda: Reduced(LogisticRegression, "l2"),
    "arguments for a new estimator": lambda: Reduced(Named("copyreg", "__newobj__"), LogisticRegression, 1),
    "a state for a class": lambda: Reduced(LogisticRegression, state={"fit": 1}),
}
"""Objects with states in which something is called, or that make something be called, when the estimator is asked."""


def subclass_of_text(text: str) -> list[str]:
    return [text]


@pytest.mark.parametrize("shape", STATES)
def test_states_are_plain(shape: str) -> None:
    with pytest.raises(ArtifactInvalid):
        unpickle(pickled(make_pipeline(FunctionTransformer(kw_args={"a": [STATES[shape]()]}), LogisticRegression())))


def test_the_state_of_a_reader_of_arrays_is_plain() -> None:
    content = bytearray(dumped([np.arange(3.0)]))
    for name in (b"order", b"shape", b"dtype"):
        with pytest.raises(ArtifactInvalid):
            unpickle(bytes(content.replace(name, b"read" + name[4:])))


TARGETS: dict[str, Any] = {
    "a class": LogisticRegression,
    "a plain type": float,
    "a function": np.nan_to_num,
    "a ufunc": np.log1p,
    "a dtype of NumPy": Reduced(np.dtype, "f8", False, False),
    "a missing value": pd.NA,
    "a number": 1.5,
    "a list": [1],
    "a reconstructor": Named("numpy._core.multiarray", "_reconstruct"),
}


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_shared_is_not_changed(target: str) -> None:
    content = pickled(TARGETS[target])[:-1] + b"}\x8c\x04evilK\x01sb."
    if target == "a dtype of NumPy":
        found, _ = unpickle(pickled(Reduced(np.dtype, "f8", False, False, state=(3, ">", None, None, None, -1, -1, 0))))
        assert found.str == ">f8"
        assert np.dtype("f8").str == "<f8"
        return

    with pytest.raises(ArtifactInvalid, match="not trusted"):
        unpickle(content)


def test_a_state_is_set_once() -> None:
    array = pickle.dumps(np.arange(3.0), 4)
    # The array is built, looked at by another object, and built again: its memory would be freed under the other one.
    again = array[:-1] + pickle.dumps(np.arange(9.0).__reduce__()[2], 4)[2 + 9 : -1] + b"b."

    assert unpickle(array)[0].tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(ArtifactInvalid, match="a change of ndarray"):
        unpickle(again)


@pytest.mark.parametrize(
    "pushed",
    [
        Made(pd.Series, None, items=[1]),
        Made(StandardScaler, None, items=[1]),
        Made(pd.DataFrame, None, pairs={"a": 1}),
        Made(StandardScaler, None, pairs={"a": 1}),
        Reduced(collections.deque, [], 3),
    ],
    ids=["series", "estimator", "frame", "estimator's items", "deque"],
)
def test_only_containers_are_filled(pushed: Any) -> None:
    if isinstance(pushed, Reduced):
        assert unpickle(pickled(pushed))[0].maxlen == 3
        return
    with pytest.raises(ArtifactInvalid, match="a change of"):
        unpickle(pickled(pushed))


def searched(part: Any) -> Any:
    return with_state(GridSearchCV(LinearRegression(), {}), best_estimator_=part)


@pytest.mark.parametrize(
    "estimator",
    [
        searched(np.zeros(3)),
        searched(np.log1p),
        searched(1.5),
        searched([Bunch(predict=np.sum)]),
        with_state(StackingClassifier([]), estimators_=[LinearRegression(), np.zeros(3)]),
        with_state(StackingClassifier([]), estimators_=[LinearRegression()], final_estimator_=np.zeros(3)),
        with_state(ClassifierChain(LinearRegression()), estimators_=objects(RBF())),
        with_state(ColumnTransformer([]), transformers_=[("a", np.zeros(3), [0])]),
        Pipeline([("a", StandardScaler()), ("b", np.zeros(3))]),
        FrozenEstimator(FRAME),
        FrozenEstimator("info"),
        with_state(FrozenEstimator(LinearRegression()), shape=(3,)),
        FixedThresholdClassifier(FRAME),
        with_state(KBinsDiscretizer(), _encoder=FRAME),
    ],
    ids=[
        *("array", "function", "number", "bunch", "estimators", "last", "kernel", "transformer", "step"),
        *("frozen frame", "frozen text", "frozen shape", "threshold", "encoder"),
    ],
)
def test_what_is_asked_for_predictions_is_an_estimator(estimator: Any) -> None:
    with pytest.raises(ArtifactInvalid, match=r"where an estimator has to be|in the place of"):
        unpickle(pickled(make_pipeline(estimator)))


@pytest.mark.parametrize(
    "estimator",
    [
        FunctionTransformer(np.sum, kw_args={"initial": "info", "where": False, "dtype": object}),
        FunctionTransformer(np.sum, inverse_func=np.sum, inv_kw_args={"initial": 1}),
        FunctionTransformer(np.clip, kw_args={"a_min": "info"}),
        FunctionTransformer(np.clip, kw_args={"a_min": objects("info")}),
        FunctionTransformer(np.diff, kw_args={"prepend": "info"}),
        FunctionTransformer(functools.partial(np.sum, initial=1)),
        KernelRidge(kernel_params={"n_jobs": 300}),
        KernelRidge(kernel_params={"n_threads": 300}),
        KNeighborsClassifier(metric_params={"n_jobs": -1}),
        with_state(KNeighborsClassifier(), effective_metric_="rbf", effective_metric_params_={"workers": 300}),
        GaussianProcessRegressor(PairwiseKernel(pairwise_kernels_kwargs={"n_jobs": 300})),
    ],
)
def test_keyword_arguments_of_functions_are_on_a_list(estimator: Any) -> None:
    with pytest.raises(ArtifactInvalid, match="an argument"):
        unpickle(pickled(make_pipeline(estimator)))


ROWS = np.random.default_rng(0).random((20, 3))


@pytest.mark.parametrize(
    "estimator",
    [
        FunctionTransformer(np.clip, kw_args={"a_min": 0, "a_max": np.ones(3)}),
        FunctionTransformer(functools.partial(np.clip, a_min=0), kw_args={"a_max": np.float64(0.5)}),
        FunctionTransformer(np.log1p, kw_args={"dtype": np.float32}),
        FunctionTransformer(np.reshape, kw_args={"shape": (-1, 3)}),
        FunctionTransformer(np.sum, kw_args={"axis": 1, "keepdims": True}),
        FunctionTransformer(rbf_kernel, kw_args={"Y": ROWS[:5], "gamma": 0.5}),
        FunctionTransformer(normalize, kw_args={"norm": "l1"}),
        FrozenEstimator(StandardScaler().fit(ROWS)),
        KNeighborsTransformer(algorithm="brute", metric="seuclidean", metric_params={"V": np.ones(3)}),
    ],
)
def test_usual_keyword_arguments_and_frozen_estimators_are_read(estimator: Any) -> None:
    expected = estimator.fit(ROWS, ROWS[:, 0]).transform(ROWS)

    found = unpickle(dumped(estimator))[0].transform(ROWS)

    assert abs(found - expected).max() == 0


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02(c__builtin__\neval\nU\x011o.",
        pickled(Named("sklearn.linear_model._logistic", "LogisticRegression"))[:-1] + b"K\x01\x85\x81.",
        b"\x80\x04\x82\x01.",
        b"\x80\x04\x8c\x01aQ.",
        b"\x80\x04P1\n.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id)}\x92.",
    ],
    ids=["OBJ", "NEWOBJ", "EXT1", "BINPERSID", "PERSID", "NEWOBJ_EX"],
)
def test_opcodes_that_no_library_writes_are_refused(content: bytes) -> None:
    with pytest.raises(ArtifactInvalid, match="not trusted"):
        unpickle(content)


@pytest.mark.parametrize("kind", ["OrderedDict", "defaultdict", "Counter"])
def test_only_a_plain_dictionary_is_a_state(kind: str) -> None:
    made = b"ccollections\n%b\n)R" % kind.encode()
    pickle = b"\x80\x04csklearn.pipeline\nPipeline\n)\x81" + made + b"\x8c\x06memory\x8c\x02/xsb."

    with pytest.raises(Exception, match=kind):
        unpickle(pickle)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.InconsistentVersionWarning")
def test_a_list_that_grows_after_its_check_is_another_one() -> None:
    stacking = b"csklearn.ensemble._stacking\nStackingClassifier\n)\x81}\x8c\x0dstack_method_]\x94sb"

    estimator, _ = unpickle(b"\x80\x04" + stacking + b"h\x00\x8c\x06tofilea0.")

    assert estimator.stack_method_ == []


def test_keyword_arguments_that_grow_after_their_check_are_others() -> None:
    partial = b"cfunctools\npartial\ncnumpy\nsum\n\x85R(cnumpy\nsum\n)}\x94NtR"
    partial = partial.removesuffix(b"R") + b"b"

    value, _ = unpickle(b"\x80\x04" + partial + b"h\x00\x8c\x03out\x8c\x01xs0.")

    assert value.keywords == {}


def test_arguments_of_a_metric_that_grow_after_their_check_are_others() -> None:
    arguments: dict[str, Any] = {}
    metric = DistanceMetric.get_metric("pyfunc", func=np.vecdot)
    make, classes, state = metric.__reduce__()
    content = pickled([Reduced(make, *classes, state=(*state[:-1], arguments)), arguments])

    (read, grown), _ = unpickle(content)
    grown["out"] = np.zeros(1)

    assert read.__getstate__()[-1] == {}


def labelled(label: Any, *values: Any) -> pd.Series:
    held = np.empty(len(values), dtype=object)
    held[:] = values
    return pd.Series(held, index=pd.Index([label] * len(values), dtype=object), dtype=object)


@pytest.mark.parametrize(
    "held",
    [
        labelled("__array_interface__", {"data": (1 << 20, False), "shape": (1, 1), "typestr": "<f8", "version": 3}),
        labelled("__array_interface__", "plain"),
        labelled("__array_struct__", None),
        labelled("predict", [1]),
        labelled("predict", b"plain", LinearRegression()),
        labelled("x", {"a": 1}).to_frame("y"),
        labelled("x", "plain").to_frame("__array_interface__"),
        labelled("x", "plain").to_frame("__array__").T,
    ],
    ids=["memory", "label", "struct", "list", "estimator", "frame", "column", "row"],
)
@pytest.mark.parametrize("within", ["arguments", "list", "array", "part"])
def test_data_frames_hand_out_nothing_but_plain_values(held: Any, within: str) -> None:
    """NumPy took any memory that a series described for an array, which a scaler then changed: that ran code."""
    array = np.empty(1, dtype=object)
    array[0] = held
    search = GridSearchCV(LinearRegression(), {})
    search.best_estimator_ = held
    estimator = {
        "arguments": FunctionTransformer(kw_args={"initial": held}),
        "list": FunctionTransformer(kw_args={"initial": [held]}),
        "array": FunctionTransformer(kw_args={"initial": array}),
        "part": search,
    }[within]

    with pytest.raises(ArtifactInvalid, match="not trusted"):
        unpickle(pickled(estimator))


LONG = b"x" * 8_000
"""More bytes than NumPy copies when it makes an array of them."""


def shared(maker: str) -> Any:
    """Return bytes, and an array that is made of the same object."""
    if maker == "buffer":
        held = bytearray(LONG)
        return [held, Reduced(Named("numpy._core.numeric", "_frombuffer"), held, np.dtype("u1"), (len(held),), "C")]
    array = np.zeros(len(LONG), "u1") if maker == "array" else np.ma.zeros(len(LONG), "u1")
    reduced: Any = array.__reduce__()
    function, args, state = reduced
    parts = [LONG if type(each) is bytes else each for each in state]
    return [LONG, Reduced(function, *args, state=tuple(parts))]


@pytest.mark.parametrize("maker", ["array", "masked array", "buffer"])
def test_an_array_has_memory_of_its_own(maker: str) -> None:
    (held, array), _ = unpickle(pickled(shared(maker)))

    for each in (np.ma.getdata(array), np.ma.getmaskarray(array)):
        assert not np.shares_memory(each, np.frombuffer(held, "u1"))


def test_links_between_nodes_are_shared_with_no_other_part() -> None:
    final = HistGradientBoostingRegressor(max_iter=1, min_samples_leaf=1).fit([[0.0], [1.0]] * 9, [0.0, 1.0] * 9)
    other = FunctionTransformer(kw_args={"held": final._predictors[0][0].nodes})

    estimator, _ = unpickle(pickled(make_pipeline(other, final)))

    nodes, held = estimator[-1]._predictors[0][0].nodes, estimator[0].kw_args["held"]
    assert not np.shares_memory(nodes, held)
    assert (nodes == held).all()


def test_the_order_of_neighbours_is_shared_with_no_other_part() -> None:
    function, args, state = KDTree([[0.0], [1.0], [2.0]]).__reduce__()
    tree = Reduced(function, *args, state=state)
    content = pickled([state[1], with_state(KernelDensity(), tree_=tree)])

    (order, estimator), _ = unpickle(content)

    assert not np.shares_memory(order, estimator.tree_.get_arrays()[1])
