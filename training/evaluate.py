"""How good an estimator is on rows that it was not fitted on."""

from typing import Any

from sklearn.model_selection import StratifiedKFold, cross_validate

from training.dataset import Dataset

FOLDS = 5

_SCORERS = {"accuracy": "accuracy", "f1_macro": "f1_macro"}


def evaluate(estimator: Any, dataset: Dataset, *, seed: int = 0) -> dict[str, float]:
    """Mean scores over stratified, shuffled folds; the estimator itself stays unfitted.

    Returns:
        `accuracy` and `f1_macro` in 0..1, higher is better; for estimators with `predict_proba` also `log_loss` in
        nats, lower is better.

    Raises:
        ValueError: if every class has fewer rows than there are folds.
    """
    scorers = dict(_SCORERS)
    if hasattr(estimator, "predict_proba"):
        scorers["log_loss"] = "neg_log_loss"
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    results = cross_validate(
        estimator, dataset.rows, dataset.targets, cv=folds, scoring=scorers, error_score="raise", n_jobs=1
    )
    scores = {name: float(results[f"test_{name}"].mean()) for name in scorers}
    if "log_loss" in scores:
        # scikit-learn negates losses so that higher is better for all scorers.
        scores["log_loss"] = -scores["log_loss"]
    return scores
