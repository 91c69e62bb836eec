"""The commands that fit a model: `python -m training`, `python -m training train`."""

import argparse
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.errors import ModelError, ModelNotFound
from headrace.models.alias import LATEST, served_alias
from headrace.models.store import ModelStore
from training.dataset import BUILT_IN, Dataset, load_built_in
from training.errors import DatasetInvalid

if TYPE_CHECKING:
    from headrace.exporting.artifact import ArtifactFormat
    from training.evaluate import Evaluation


def add_command(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `train` to the command line."""
    parser = subparsers.add_parser(
        "train",
        help="fit and evaluate a model on a data set, and add it to the store",
        description="Cross-validate an estimator that suits the data set, fit it on all rows, add it to the store.",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--dataset", choices=BUILT_IN, help="a data set that scikit-learn carries")
    source.add_argument("--csv", type=Path, metavar="FILE", help="a CSV file with a header")
    source.add_argument("--parquet", type=Path, metavar="FILE", help="a Parquet file (needs pyarrow)")
    parser.add_argument("--target", metavar="COLUMN", help="the column to predict; all others are features")
    parser.add_argument(
        "--leave-out", action="append", default=[], metavar="COLUMN", help="a column that is no feature (repeatable)"
    )
    parser.add_argument("--task", choices=["classification", "regression"], help="default: what the target looks like")
    parser.add_argument("--name", metavar="N", help="name of the model (default: that of the data set or file)")
    parser.add_argument("--alias", default=LATEST, metavar="A", help="alias for the new version (default: %(default)s)")
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="TYPE",
        help="a type that a skops artifact may hold (repeatable)",
    )
    parser.add_argument("--format", choices=["joblib", "skops"], default="joblib", help="default: %(default)s")
    parser.add_argument("--store", "--models-dir", metavar="STORE", help="the model store (MODEL_STORE)")
    # Suppressed, or its default would overwrite what was said before the command.
    parser.add_argument("--version", default=argparse.SUPPRESS, metavar="V", help="default: the time in UTC")
    parser.set_defaults(run=_train)


def train_default(options: argparse.Namespace) -> int:
    """Train the built-in data set that DEFAULT_MODEL names.

    Raises:
        DatasetInvalid: if it names none.
    """
    name = options.default_model
    store = ModelStore(options.store)
    if options.if_missing and _is_there(store, name, options.version):
        return 0
    if name not in BUILT_IN:
        raise DatasetInvalid(
            f"DEFAULT_MODEL is {name!r}, which is no built-in data set ({', '.join(BUILT_IN)}): "
            "export that model yourself, or use the command train"
        )
    _fit_and_export(load_built_in(name), store, name, options.version)
    return 0


def _train(options: argparse.Namespace) -> int:
    if options.dataset:
        if options.target or options.task or options.leave_out:
            raise DatasetInvalid("--target, --task and --leave-out are for files")
        dataset, name = load_built_in(options.dataset), options.dataset
    else:
        if not options.target:
            raise DatasetInvalid("--target must say which column of the file to predict")
        # pandas: not for those who only ask if a model is there.
        from training.tabular_file import read_dataset

        path = options.csv or options.parquet
        dataset = read_dataset(
            path,
            "csv" if options.csv else "parquet",
            target=options.target,
            task=options.task,
            leave_out=options.leave_out,
        )
        name = re.sub(r"[^A-Za-z0-9._-]+", "_", path.stem).strip("._-")[:64] or "model"
    store = ModelStore(options.store)
    _fit_and_export(
        dataset,
        store,
        options.name or name,
        options.version,
        alias=options.alias,
        artifact_format=options.format,
        trusted=options.trust,
    )
    return 0


def _is_there(store: ModelStore, name: str, version: str | None) -> bool:
    """Whether a version can be served, said in one line unless there is none at all."""
    ref = version or LATEST
    try:
        ref = version or served_alias(store.aliases(name))
        manifest = store.manifest(name, ref)
        store.artifact(manifest)
    except ModelNotFound:
        return False
    except ModelError as error:
        _say(f"{name} {ref} is damaged: {error}")
        return False
    _say(f"{name} {manifest.version} is in {store.root} and intact: nothing to do")
    return True


def _fit_and_export(
    dataset: Dataset,
    store: ModelStore,
    name: str,
    version: str | None,
    *,
    alias: str = LATEST,
    artifact_format: "ArtifactFormat" = "joblib",
    trusted: Collection[str] = (),
) -> None:
    from headrace.exporting.exporter import export
    from training.evaluate import FOLDS, evaluate
    from training.pipeline import estimator_for

    estimator = estimator_for(dataset)
    final = type(estimator[-1] if hasattr(estimator, "steps") else estimator).__name__
    description = f"{final} on {dataset.name}"
    _say(f"{description}: {_size(dataset)}")
    for note in dataset.notes:
        _say(f"  {note}")
    _say(f"cross-validation, {FOLDS} folds:", end="")
    try:
        evaluation = evaluate(estimator, dataset, started=lambda fold: _say(f" {fold}", end=""))
    finally:
        _say("")
    _print_scores(evaluation)
    _say("fitting on all rows")
    estimator.fit(dataset.rows, dataset.targets)
    manifest = export(
        estimator,
        dataset.rows,
        dataset.targets,
        name=name,
        version=version,
        store=store,
        alias=alias,
        description=description,
        scores=evaluation.scores,
        held_out=evaluation.predictions,
        feature_names=dataset.feature_names,
        format=artifact_format,
        trusted=trusted,
    )
    location = store.location(name, manifest.version)
    _say(f"written: {location} (now {alias!r} of {name!r}), model card: card.html")


def _size(dataset: Dataset) -> str:
    parts = [f"{len(dataset.targets)} rows", f"{len(dataset.feature_names)} features"]
    if dataset.task == "classification":
        parts.append(f"{len(set(dataset.targets.tolist()))} classes")
    return ", ".join(parts)


def _print_scores(evaluation: "Evaluation") -> None:
    width = max(map(len, evaluation.scores))
    for name, value in evaluation.scores.items():
        _say(f"  {name:<{width}}  {value:>8.4f} ± {evaluation.deviations[name]:.4f}")


def _say(text: str, end: str = "\n") -> None:
    print(text, end=end, flush=True)  # noqa: T201 - what a command says is for people
