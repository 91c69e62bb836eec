"""Checks of the encoders of categories, whose answers are positions in arrays."""

from typing import Any

import numpy as np

from headrace.errors import ArtifactInvalid
from headrace.loading.fitted.inside import ANY, check_columns, check_inside, has_shape, whole
from headrace.loading.tokens import is_plain

KINDS = "biufOUS"
"""Kinds of arrays that estimators are fitted on. Others have gaps that are not the last when they are sorted."""


def check_categories(part: Any) -> None:
    """Check that numbers among the categories are sorted: they are found by bisection, which leads beyond others."""
    categories = vars(part).get("categories_", [])
    # scikit-learn joins lists, and would add arrays.
    if type(categories) is not list or not all(has_shape(values, ANY) for values in categories):
        raise ArtifactInvalid("an encoder has other categories than arrays in a list")
    for values in categories:
        if values.dtype.kind not in KINDS:
            raise ArtifactInvalid("an encoder has categories of another kind than numbers and texts")
        if values.dtype.kind in "OUS":
            continue
        # A gap is the last category.
        known = values[:-1] if len(values) and values[-1] != values[-1] else values
        if not (known[1:] > known[:-1]).all():
            raise ArtifactInvalid("the categories of an encoder are not sorted")


def check_one_hot(part: Any) -> None:
    """Check that each category has a column, also if rare ones share one, and one category has none."""
    fitted = vars(part)
    categories = fitted.get("categories_")
    if categories is None:
        return
    dropped = fitted.get("_drop_idx_after_grouping")
    no_groups = [None] * len(categories)
    are_grouped = fitted["_infrequent_enabled"]
    groups = fitted["_default_to_infrequent_mappings"] if are_grouped else no_groups
    rare = fitted["_infrequent_indices"] if are_grouped else no_groups
    drops = no_groups if dropped is None else dropped
    widths = fitted["_n_features_outs"]
    # scikit-learn joins lists, and would add arrays.
    if any(type(each) is not list for each in (categories, groups, rare, widths)):
        raise ArtifactInvalid("an encoder has other than lists of categories")
    for values, group, few, drop, width in zip(categories, groups, rare, drops, widths, strict=True):
        if not (has_shape(values, ANY) and (group is None or has_shape(group, ANY))):
            raise ArtifactInvalid("an encoder has other categories than arrays")
        columns = np.arange(len(values)) if group is None else group
        end = int(columns.max(initial=-1)) + 1
        check_inside(columns, end)
        check_inside(np.array([0 if drop is None else whole(drop)]), max(end, 1))
        if len(columns) != len(values) or (few is None) != (group is None) or whole(width) != end - (drop is not None):
            raise ArtifactInvalid("an encoder has another number of columns than categories")


def check_encodings(part: Any) -> None:
    """Check that each column that scikit-learn makes has an encoding: for others it answers unwritten memory."""
    fitted = vars(part)
    if "categories_" not in fitted:
        return
    categories, encodings = fitted["categories_"], fitted["encodings_"]
    n_classes = len(fitted["classes_"]) if fitted["target_type_"] == "multiclass" else 1
    if type(encodings) is not list or len(encodings) != n_classes * len(categories):
        raise ArtifactInvalid("an encoder has another number of encodings than columns")
    for at, encoding in enumerate(encodings):
        if not has_shape(encoding, len(categories[at // n_classes])):
            raise ArtifactInvalid("an encoder has another number of encodings than categories")
    if fitted["target_type_"] == "multiclass" and not has_shape(fitted["target_mean_"], n_classes):
        raise ArtifactInvalid("an encoder has another number of means than classes")


def check_labels(part: Any) -> None:
    """Check that several labels of a row have a column each: without a dictionary, the first call makes one of them.

    The matrix is as wide as the dictionary, in which two equal labels are one, with the column of the latter.
    """
    fitted = vars(part)
    if "classes_" in fitted:
        labels = fitted["classes_"]
        # scikit-learn asks labels for their hashes, which only plain values have at once.
        if not has_shape(labels, ANY) or not all(map(is_plain, labels)) or len(set(labels)) != len(labels):
            raise ArtifactInvalid("an encoder has other labels than different ones in an array")
    if fitted.get("_cached_dict") is not None:
        check_columns(fitted["_cached_dict"])


def check_classes(part: Any) -> None:
    """Check that classes are sorted: scikit-learn sorts them again, and finds those of rows by bisection.

    A gap among numbers that are objects keeps NumPy from sorting them, and then bisection leads beyond them.
    """
    if "classes_" not in vars(part):
        return
    classes = vars(part)["classes_"]
    if not has_shape(classes, ANY) or classes.dtype.kind not in KINDS or not all(map(is_plain, classes)):
        raise ArtifactInvalid("an encoder has other classes than plain values in an array")
    with np.errstate(invalid="ignore"):
        is_sorted = (classes[1:] > classes[:-1]).all()
    if not is_sorted:
        raise ArtifactInvalid("the classes of an encoder are not sorted")
