"""Checks of rows and centres, to which native code computes the distances of other rows, and of their weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.cluster import Birch
from sklearn.cluster._bisect_k_means import _BisectingTree

from headrace.errors import ArtifactInvalid
from headrace.loading.fitted.inside import ANY, check_inside, has_shape, whole
from headrace.loading.parts import parts

_FITTED = frozenset(["_fit_X", "_fit_method", "_tree", "_y", "classes_", "n_samples_fit_"])
"""Attributes of neighbours that are fitted: with one, an estimator has to have all that native code follows."""

THREADS_MAX = 1024
"""Threads for which an estimator may ask: it notes the processors of the machine of training."""

_NORMS = frozenset(["X_norm_squared", "Y_norm_squared"])
"""Parameters of a metric that native code takes for the lengths of all rows."""

_PARAMETERS: dict[str, tuple[int, ...]] = {"V": (1, 2), "VI": (2,), "w": (1,)}
"""Parameters of a metric with a number for each feature, or for each two -> the dimensions that an array may have."""


def check_neighbours(part: Any) -> None:
    """Check the rows of neighbours, their classes, and that there are as many as columns in the graph of them."""
    fitted = vars(part)
    if not _FITTED & fitted.keys():
        return
    tree, rows = fitted.get("_tree"), fitted.get("_fit_X")
    n_rows, width = shape = whole(fitted.get("n_samples_fit_")), whole(fitted.get("n_features_in_"))
    # Native code divides rows into parts by their number, and 0 would end the process.
    if n_rows < 1:
        raise ArtifactInvalid("there are no neighbours")
    if tree is not None and np.asarray(tree.data).shape != shape:
        raise ArtifactInvalid("the neighbours are not as many as their graph has columns")
    is_graph = part.metric == "precomputed" and width != n_rows
    if not (rows.shape == shape if issparse(rows) else has_shape(rows, *shape)) or is_graph:
        raise ArtifactInvalid("the neighbours are not as many as their graph has columns")
    for name, metric in (("metric_params", "metric"), ("effective_metric_params_", "effective_metric_")):
        known = fitted.get(name) or {}
        if _NORMS & known.keys():
            raise ArtifactInvalid("the parameters of a metric hold lengths of rows")
        # SciPy reads a matrix for as many features as the rows have. A function of Python has parameters of its own.
        if not callable(fitted.get(metric)) and not _are_wide(known, width):
            raise ArtifactInvalid("the parameters of a metric are for rows of another width")
    if "classes_" in fitted and fitted["outputs_2d_"] is not True:
        if not has_shape(fitted["_y"], n_rows):
            raise ArtifactInvalid("the neighbours are not as many as their classes")
        check_inside(fitted["_y"], len(fitted["classes_"]))


def _are_wide(known: Mapping[str, Any], width: int) -> bool:
    """Tell whether the parameters of a metric are for rows of a width; without one, SciPy computes it or refuses."""
    for name, n_sides in _PARAMETERS.items():
        value = known.get(name)
        array = np.array(value) if type(value) in (list, tuple) else value
        if array is not None and not any(has_shape(array, *[width] * sides) for sides in n_sides):
            return False
    return True


def check_covariance(part: Any) -> None:
    """Check that the matrices by which an estimator weighs distances to a place are as wide as its rows."""
    fitted = vars(part)
    matrices = [fitted[name] for name in ("covariance_", "precision_") if fitted.get(name) is not None]
    if not matrices:
        return
    width = whole(fitted.get("n_features_in_"))
    if not all(has_shape(each, width, width) for each in matrices):
        raise ArtifactInvalid("a covariance is for rows of another width")


def check_centres(part: Any) -> None:
    """Check that the centres of clusters are as wide as the rows, and that threads are no more than processors."""
    fitted = vars(part)
    width = fitted.get("n_features_in_")
    if not 0 < whole(fitted.get("_n_threads", 1)) <= THREADS_MAX:
        raise ArtifactInvalid("an estimator asks for too many threads")
    name = "subcluster_centers_" if isinstance(part, Birch) else "cluster_centers_"
    centres = [fitted[name]] if name in fitted else []
    halves = [*parts(fitted["_bisecting_tree"])] if "_bisecting_tree" in fitted else []
    if halves and fitted["_bisecting_tree"] is not halves[0]:
        raise ArtifactInvalid("the halves of clusters are in no tree")
    if not all(has_shape(each, ANY, width) and len(each) for each in centres) or not all(
        _is_half(each, width) for each in halves
    ):
        raise ArtifactInvalid("the centres of clusters are for rows of another width")
    if "_subcluster_norms" in fitted and not has_shape(fitted["_subcluster_norms"], len(centres[0])):
        raise ArtifactInvalid("the clusters are not as many as their lengths")


def _is_half(node: Any, width: int) -> bool:
    known = vars(node)
    are_nodes = all(isinstance(known[side], _BisectingTree | None) for side in ("left", "right"))
    return type(node) is _BisectingTree and are_nodes and has_shape(known["center"], width)
