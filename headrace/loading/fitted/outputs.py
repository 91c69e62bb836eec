"""Checks of attributes by which scikit-learn fills an array of outputs: what others leave out is unwritten memory."""

from typing import Any

from headrace.errors import ArtifactInvalid
from headrace.loading.fitted.inside import ANY, has_shape, whole


def check_order(part: Any) -> None:
    """Check that the order of a chain has the place of each estimator once."""
    fitted = vars(part)
    if "order_" not in fitted:
        return
    order = fitted["order_"]
    if type(order) is not list and not (has_shape(order, ANY) and order.dtype.kind in "iu"):
        raise ArtifactInvalid("the order of a chain is no list of whole numbers")
    if sorted(map(whole, order)) != [*range(len(fitted["estimators_"]))]:
        raise ArtifactInvalid("the order of a chain has not each of its estimators once")


def check_mixture(part: Any) -> None:
    """Check that each component of a mixture has a precision, unless all share one."""
    fitted = vars(part)
    if "precisions_cholesky_" not in fitted:
        return
    means, kind, width = fitted["means_"], fitted["covariance_type"], whole(fitted["n_features_in_"])
    shapes = {"full": (len(means), width, width), "tied": (width, width), "diag": (len(means), width)}
    if not has_shape(means, ANY, width) or not has_shape(
        fitted["precisions_cholesky_"], *shapes.get(kind, (len(means),))
    ):
        raise ArtifactInvalid("a mixture has other precisions than components")
