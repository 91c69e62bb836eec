"""`python -m training`: fits the example model on Iris and writes a version of it."""

import argparse
import sys
from collections.abc import Sequence

from shared.errors import MillraceError, ModelError, ModelNotFound
from shared.model_store import LATEST, ModelStore
from shared.settings import CommonSettings, load_settings
from training.dataset import load_iris
from training.evaluate import FOLDS, evaluate
from training.export import export
from training.pipeline import build_estimator


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; `arguments` default to those of the process. Returns its exit code."""
    settings = load_settings(CommonSettings)
    options = _parser(settings).parse_args(arguments)
    store, name = ModelStore(options.store), settings.default_model
    try:
        if options.if_missing and _is_there(store, name, options.version or LATEST):
            return 0
        _train(store, name, options.version)
    except (MillraceError, OSError) as error:
        print(f"millrace: {_reason(error)}", file=sys.stderr)
        return 1
    return 0


def _parser(settings: CommonSettings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training",
        description="Fit a logistic regression on Iris and write it into the model store, as the model DEFAULT_MODEL.",
    )
    parser.add_argument(
        "--store",
        "--models-dir",
        default=settings.model_store,
        metavar="STORE",
        help="the model store, a directory or a URL (MODEL_STORE; now %(default)s)",
    )
    parser.add_argument("--version", metavar="V", help="name of the new version (default: the time in UTC)")
    parser.add_argument(
        "--if-missing",
        action="store_true",
        help="do nothing if the model is there and intact: version V, or else the one called latest",
    )
    return parser


def _is_there(store: ModelStore, name: str, version: str) -> bool:
    """Whether a version can be served, said in one line unless there is none at all."""
    try:
        manifest = store.manifest(name, version)
        store.artifact(manifest)
    except ModelNotFound:
        return False
    except ModelError as error:
        print(f"{name} {version} is damaged: {error}")
        return False
    print(f"{name} {manifest.version} is in {store.root} and intact: nothing to do")
    return True


def _train(store: ModelStore, name: str, version: str | None) -> None:
    dataset = load_iris()
    estimator = build_estimator()
    scores = evaluate(estimator, dataset)
    estimator.fit(dataset.rows, dataset.targets)
    manifest = export(
        estimator,
        dataset.rows,
        store=store,
        name=name,
        version=version,
        feature_names=dataset.feature_names,
        scores=scores,
        description=f"{type(estimator).__name__} on {dataset.name}",
    )
    features, classes = len(manifest.features), len(estimator.classes_)
    print(f"{manifest.description}: {manifest.training_rows} rows, {features} features, {classes} classes")
    print(f"mean of {FOLDS} stratified folds:")
    width = max(len(score) for score in scores)
    for score, value in scores.items():
        print(f"  {score:<{width}}  {value:.4f}")
    print(f"written: {store.location(name, manifest.version)} (now {LATEST!r} of {name!r})")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
