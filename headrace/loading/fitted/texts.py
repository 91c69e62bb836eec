"""Checks of texts by which scikit-learn reads attributes or fills in a format, and so could reach any attribute."""

import re
from collections.abc import Callable
from string import Formatter

from headrace.errors import ArtifactInvalid

_FITTED_ATTRIBUTE = re.compile(r"(?:[a-z]\w*_\.|named_steps\.\w+\.)*[a-z]\w*_")
"""A path to a fitted attribute of estimators in estimators. No attribute of arrays ends so: those lead on to code."""

_NAME_FIELDS = frozenset(["feature_name", "transformer_name"])


def _check_importances(getter: str) -> None:
    if getter != "auto" and not _FITTED_ATTRIBUTE.fullmatch(getter):
        raise ArtifactInvalid("the importance of features is no fitted attribute of an estimator")


def _check_names(template: str) -> None:
    try:
        fields = [(name, spec) for _, name, spec, _ in Formatter().parse(template) if name is not None]
    except ValueError:
        raise ArtifactInvalid("the format of the names of columns is none") from None
    if any(spec or name not in _NAME_FIELDS for name, spec in fields):
        raise ArtifactInvalid("the format of the names of columns has more in it than names")


TEXTS: dict[str, Callable[[str], None]] = {
    "importance_getter": _check_importances,
    "verbose_feature_names_out": _check_names,
}
"""Attributes whose text scikit-learn follows -> the check of such a text."""
