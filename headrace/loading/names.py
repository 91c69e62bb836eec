"""Names that a pickled artifact may refer to. The lists are exact: a name that is not here is refused.

A name of VALUES may be anywhere in an estimator. A name of INSTANCES may be used to make an object from a plain state,
one of ARGUMENTS as the argument of a call; the functions and classes that may be called are in `calls`. Estimators of
scikit-learn are recognized by their base class, and ufuncs by their type (`rules`).
"""

from typing import Any


def _paths(table: dict[str, str]) -> frozenset[str]:
    return frozenset(f"{module}.{name}" for module, names in table.items() for name in names.split())


def words(*lines: str) -> frozenset[str]:
    """Return the words of texts."""
    return frozenset(word for line in lines for word in line.split())


_DISTANCES = (
    "braycurtis canberra chebyshev cityblock correlation cosine dice euclidean hamming jaccard jensenshannon "
    "mahalanobis minkowski rogerstanimoto russellrao seuclidean sokalsneath sqeuclidean yule"
)

VALUES = _paths(
    {
        "builtins": "bool bytes dict float int list object str tuple",
        "numpy": "around clip cumsum diff mean median nan_to_num ravel reshape round sort sum",
        "pandas": "NA",
        "pandas._libs.missing": "NA",
        "scipy._lib.array_api_compat.numpy._aliases": "asarray",
        "scipy.spatial.distance": _DISTANCES,
        "sklearn.cluster._kmeans": "_kmeans_single_elkan _kmeans_single_lloyd",
        "sklearn.feature_extraction.text": "strip_accents_ascii strip_accents_unicode strip_tags",
        "sklearn.feature_selection._mutual_info": "mutual_info_classif mutual_info_regression",
        "sklearn.feature_selection._univariate_selection": "chi2 f_classif f_oneway f_regression r_regression",
        "sklearn.metrics.pairwise": (
            "additive_chi2_kernel chi2_kernel cosine_distances cosine_similarity euclidean_distances "
            "haversine_distances laplacian_kernel linear_kernel manhattan_distances nan_euclidean_distances "
            "polynomial_kernel rbf_kernel sigmoid_kernel"
        ),
        "sklearn.preprocessing._data": "binarize maxabs_scale minmax_scale normalize robust_scale scale",
        "sklearn.preprocessing._function_transformer": "_identity",
        "sklearn.utils.validation": "check_array",
    }
)
"""Plain types, and functions of their arguments alone: they call nothing that they are given, and open no file."""

_METRICS = (
    "BrayCurtis Canberra Chebyshev Dice Euclidean Hamming Haversine Jaccard Kulsinski Mahalanobis Manhattan Matching "
    "Minkowski PyFunc RogersTanimoto RussellRao SEuclidean SokalMichener SokalSneath"
)

METRICS = frozenset(
    f"sklearn.metrics._dist_metrics.{name}Distance{bits}" for name in _METRICS.split() for bits in ("32", "64", "")
)
TREES = _paths(
    {
        "sklearn.neighbors._ball_tree": "BallTree",
        "sklearn.neighbors._kd_tree": "KDTree",
    }
)
"""Trees of neighbours; no estimator has those of single precision, which are of no common class with these."""

BIT_GENERATORS = _paths(
    {
        "numpy.random._mt19937": "MT19937",
        "numpy.random._pcg64": "PCG64 PCG64DXSM",
        "numpy.random._philox": "Philox",
        "numpy.random._sfc64": "SFC64",
    }
)

INDEXES = _paths(
    {
        "pandas": "Index RangeIndex",
        "pandas.core.indexes.base": "Index",
        "pandas.core.indexes.range": "RangeIndex",
    }
)
CATEGORICALS = _paths({"pandas": "Categorical", "pandas.core.arrays.categorical": "Categorical"})
MASKED_ARRAYS = _paths({"numpy.ma": "MaskedArray", "numpy.ma.core": "MaskedArray"})

ARGUMENTS = (
    frozenset(["numpy.ndarray", "numpy.memmap", "numpy.matrix", "numpy.random.bit_generator.SeedSequence"])
    | MASKED_ARRAYS
    | METRICS
    | TREES
    | BIT_GENERATORS
    | INDEXES
    | CATEGORICALS
)
"""Classes that are arguments of the functions that make their instances."""

_LOSSES = (
    "AbsoluteError ExponentialLoss HalfBinomialLoss HalfBinomialLossArrayAPI HalfGammaLoss HalfMultinomialLoss "
    "HalfMultinomialLossArrayAPI HalfPoissonLoss HalfPoissonLossArrayAPI HalfSquaredError HalfTweedieLoss "
    "HalfTweedieLossIdentity HuberLoss PinballLoss"
)

TREE_PREDICTOR = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"

INSTANCES = _paths(
    {
        "joblib.numpy_pickle": "NumpyArrayWrapper",
        "pandas": "BooleanDtype CategoricalDtype DataFrame Float32Dtype Float64Dtype Int8Dtype Int16Dtype Int32Dtype "
        "Int64Dtype Series UInt8Dtype UInt16Dtype UInt32Dtype UInt64Dtype",
        "pandas.arrays": "ArrowStringArray BooleanArray FloatingArray IntegerArray",
        "pandas.core.arrays.boolean": "BooleanArray BooleanDtype",
        "pandas.core.arrays.floating": "FloatingArray Float32Dtype Float64Dtype",
        "pandas.core.arrays.integer": "IntegerArray Int8Dtype Int16Dtype Int32Dtype Int64Dtype UInt8Dtype UInt16Dtype "
        "UInt32Dtype UInt64Dtype",
        "pandas.core.arrays.string_arrow": "ArrowStringArray",
        "pandas.core.dtypes.dtypes": "CategoricalDtype",
        "pandas.core.frame": "DataFrame",
        "pandas.core.internals.managers": "SingleBlockManager",
        "pandas.core.series": "Series",
        "scipy.interpolate._bsplines": "BSpline",
        "scipy.sparse._bsr": "bsr_array bsr_matrix",
        "scipy.sparse._coo": "coo_array coo_matrix",
        "scipy.sparse._csc": "csc_array csc_matrix",
        "scipy.sparse._csr": "csr_array csr_matrix",
        "scipy.sparse._dia": "dia_array dia_matrix",
        "sklearn._loss.link": "HalfLogitLink IdentityLink Interval LogLink LogitLink MultinomialLogit",
        "sklearn._loss.loss": _LOSSES,
        "sklearn.calibration": "_CalibratedClassifier _SigmoidCalibration _TemperatureScaling",
        "sklearn.cluster._birch": "_CFNode _CFSubcluster",
        "sklearn.cluster._bisect_k_means": "_BisectingTree",
        "sklearn.compose._column_transformer": "make_column_selector",
        "sklearn.ensemble._hist_gradient_boosting.predictor": "TreePredictor",
        "sklearn.gaussian_process.kernels": (
            "CompoundKernel ConstantKernel DotProduct ExpSineSquared Exponentiation Matern PairwiseKernel Product RBF "
            "RationalQuadratic Sum WhiteKernel"
        ),
        "sklearn.metrics._scorer": "_PassthroughScorer",
        "sklearn.model_selection._split": (
            "GroupKFold GroupShuffleSplit KFold LeaveOneGroupOut LeaveOneOut LeavePGroupsOut LeavePOut PredefinedSplit "
            "RepeatedKFold RepeatedStratifiedKFold ShuffleSplit StratifiedGroupKFold StratifiedKFold "
            "StratifiedShuffleSplit TimeSeriesSplit _CVIterableWrapper"
        ),
        "sklearn.neural_network._stochastic_optimizers": "AdamOptimizer SGDOptimizer",
        "sklearn.utils._bunch": "Bunch",
        "sklearn.utils._metadata_requests": "MetadataRequest MethodMetadataRequest",
    }
)
"""Classes of which a pickle may make objects, without calling them, and set their plain state."""

NAMED_TUPLES = _paths({"sklearn.impute._iterative": "_ImputerTriplet"})
"""Classes that are tuples with names."""

_CYTHON_LOSSES = (
    "CyAbsoluteError CyExponentialLoss CyHalfBinomialLoss CyHalfGammaLoss CyHalfPoissonLoss "
    "CyHalfSquaredError CyHalfTweedieLoss CyHalfTweedieLossIdentity CyHuberLoss CyPinballLoss CyHalfMultinomialLoss"
)
CYTHON_LOSSES = _paths({"sklearn._loss._loss": _CYTHON_LOSSES})
LOSSES = CYTHON_LOSSES | _paths(
    {
        "sklearn.linear_model._sgd_fast": (
            "EpsilonInsensitive Hinge Huber Log ModifiedHuber SquaredEpsilonInsensitive SquaredHinge SquaredLoss"
        )
    }
)
"""Cython classes of losses, which are called with numbers."""

TRUE_MODULES = {"_loss": "sklearn._loss._loss"}
"""Full names of Cython modules that call themselves by the last part only, as the pickles of scikit-learn 1.7 do."""

FORBIDDEN_ESTIMATORS = (
    *("sklearn.callback", "sklearn.conftest", "sklearn.datasets", "sklearn.externals", "sklearn.experimental"),
    *("sklearn.utils._mocking", "sklearn.utils._show_versions", "sklearn.utils._test_common", "sklearn.utils._testing"),
    "sklearn.utils.estimator_checks",
)
"""Parts of scikit-learn from which no pickle may import: they run code, open files or connect to others."""


OPTIONS = words(
    "a_max a_min accept_large_sparse accept_sparse allow_nd axis base center centered coef0 copy decimals degree",
    "dense_output ensure_2d ensure_all_finite ensure_min_features ensure_min_samples ensure_non_negative",
    "feature_range force_finite force_writeable func gamma keepdims max min missing_values n n_neighbors nan",
    "neginf newshape overwrite_input p posinf quantile_range random_state shape squared stable threshold",
    "unit_variance w with_centering with_mean with_scaling with_std V VI X_norm_squared Y Y_norm_squared",
)
"""Keyword arguments that the functions of libraries may get, with numbers; none makes a function return it as it is."""

TEXT_OPTIONS = frozenset(
    ["accept_sparse", "casting", "dtype", "ensure_all_finite", "input_name", "kind", "norm", "order"]
)
"""Keyword arguments that the functions of libraries may get with texts and types too."""

CORES = words(
    "max_workers n_cores n_jobs n_processes n_threads n_workers num_threads num_workers nthread thread_count workers"
)
"""Keyword arguments that say how many processes or threads a function starts."""


ARGUMENT_NAMES = {
    "_metric_params": "metric",
    "effective_metric_params_": "effective_metric_",
    "inv_kw_args": "inverse_func",
    "kernel_params": "kernel",
    "kw_args": "func",
    "metric_params": "metric",
    "pairwise_kernels_kwargs": "metric",
}
"""Attributes with keyword arguments for a function -> the attribute with the function or its name."""

PART_NAMES = words(
    "_bin_mapper _centerer _encoder _label_binarizer _label_encoder _preprocessor _scaler _tfidf base_estimator",
    "base_estimator_ best_estimator_ calibrated_classifiers_ calibrators estimator estimator_ estimators",
    "estimators_ final_estimator final_estimator_ indicator_ init_ initial_imputer_ kernel_pca_ label_binarizer_",
    "le_ nbrs_ one_hot_encoder_ regressor regressor_ steps transformer transformer_ transformer_list",
)
"""Attributes that hold the estimators that an estimator asks, or their names."""


def is_special(name: Any) -> bool:
    """Return True if a name is that of a special method or attribute of Python, NumPy or others, or no name."""
    return type(name) is not str or (name.startswith("__") and name.endswith("__"))
