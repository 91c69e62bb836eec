"""Checks of rows and centres, to which native code computes the distances of other rows."""

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


def check_neighbours(part: Any) -> None:
    """Check the rows of neighbours, their classes, and that there are as many as columns in the graph of them."""
    fitted = vars(part)
    if not _FITTED & fitted.keys():
        return
    tree, rows = fitted.get("_tree"), fitted.get("_fit_X")
    n_rows, width = shape = whole(fitted.get("n_samples_fit_")), whole(fitted.get("n_features_in_"))
    if tree is not None and np.asarray(tree.data).shape != shape:
        raise ArtifactInvalid("the neighbours are not as many as their graph has columns")
    is_graph = part.metric == "precomputed" and width != n_rows
    if not (rows.shape == shape if issparse(rows) else has_shape(rows, *shape)) or is_graph:
        raise ArtifactInvalid("the neighbours are not as many as their graph has columns")
    for name in ("metric_params", "effective_metric_params_"):
        if _NORMS & (fitted.get(name) or {}).keys():
            raise ArtifactInvalid("the parameters of a metric hold lengths of rows")
    if "classes_" in fitted and fitted["outputs_2d_"] is not True:
        if not has_shape(fitted["_y"], n_rows):
            raise ArtifactInvalid("the neighbours are not as many as their classes")
        check_inside(fitted["_y"], len(fitted["classes_"]))


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
