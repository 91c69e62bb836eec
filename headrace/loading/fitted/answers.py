"""Answers of one estimator from which another one makes a sparse matrix without a check."""

from typing import Any

from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import LabelBinarizer

from headrace.errors import ArtifactInvalid
from headrace.loading.makers import check_sparse


class CheckedLabels(LabelBinarizer):  # type: ignore[misc]
    """A LabelBinarizer that checks the positions in a sparse matrix before it decodes the matrix."""

    def inverse_transform(self, Y: Any, threshold: Any = None) -> Any:
        """Return the labels of a matrix.

        Raises:
            ValueError: if a position leads out of it.
        """
        check_sparse(Y)
        return super().inverse_transform(Y, threshold)


def check_answers_of(part: Any) -> None:
    """Let a OneVsRestClassifier check its answers while it predicts several labels.

    It takes the places of the positive numbers that an estimator answers for the rows of a sparse matrix. A linear
    estimator answers as many numbers for a row as it has weights of classes, and a pipeline may answer for other rows
    than it was asked for. Nobody knows these lengths before the estimators have answered.

    Raises:
        ArtifactInvalid: if it has another encoder of labels than scikit-learn gives it.
    """
    if isinstance(part, OneVsRestClassifier) and "label_binarizer_" in vars(part):
        labels = part.label_binarizer_
        if type(labels) not in (LabelBinarizer, CheckedLabels):
            raise ArtifactInvalid("an estimator for several labels has another encoder of them than scikit-learn's")
        labels.__class__ = CheckedLabels
