"""`headrace train`: fits and evaluates a model on a data set, and adds it to the model store."""

import argparse
import re
import sys
import uuid
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.errors import HeadraceError, ModelError, ModelNotFound
from headrace.models.alias import LATEST, served_alias
from headrace.models.store import ModelStore
from headrace.terminal import one_line
from shared.observability.logs import set_up_logging
from shared.settings import CommonSettings, load_settings
from training.dataset import BUILT_IN, Dataset, load_built_in
from training.errors import DatasetInvalid

if TYPE_CHECKING:
    from headrace.exporting.artifact import ArtifactFormat
    from training.evaluate import Evaluation


def run(arguments: Sequence[str] | None = None) -> int:
    """Set logging up for a process, and run the command."""
    settings = load_settings(CommonSettings)
    set_up_logging("training", settings.log_level, settings.log_format)
    return main(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; `arguments` are by default those of the process."""
    settings = load_settings(CommonSettings)
    options = _parser(settings).parse_args(arguments)
    try:
        _train(options, settings.default_model)
    except (HeadraceError, OSError) as error:
        print(f"headrace: {one_line(_reason(error))}", file=sys.stderr)
        return 1
    return 0


def _parser(settings: CommonSettings) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="headrace train",
        description="Cross-validate an estimator that suits the data set, fit it on all rows, add it to the store. "
        f"Without a source: the built-in data set that DEFAULT_MODEL names (now {settings.default_model}).",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--dataset", choices=BUILT_IN, help="a data set that scikit-learn carries")
    source.add_argument("--csv", type=Path, metavar="FILE", help="a CSV file with a header")
    source.add_argument("--parquet", type=Path, metavar="FILE", help="a Parquet file (needs pyarrow)")
    parser.add_argument("--target", metavar="COLUMN", help="the column to predict; all others are features")
    parser.add_argument(
        "--leave-out", action="append", default=[], metavar="COLUMN", help="a column that is no feature (repeatable)"
    )
    parser.add_argument("--task", choices=["classification", "regression"], help="default: by the target's values")
    parser.add_argument("--name", metavar="N", help="name of the model (default: that of the data set or file)")
    parser.add_argument("--alias", default=LATEST, metavar="A", help="alias for the new version (default: %(default)s)")
    parser.add_argument("--trusted", default="", metavar="TYPE,...", help="types that a skops artifact may hold")
    parser.add_argument(
        "--samples",
        choices=["synthetic", "none"],
        default="synthetic",
        help="rows that callers see: made up, or none (default: %(default)s)",
    )
    parser.add_argument(
        "--format",
        choices=["joblib", "skops"],
        help="default: skops, joblib where skops can't; of the built-in data set iris always joblib (model.pkl)",
    )
    parser.add_argument(
        "--store",
        default=settings.model_store,
        metavar="STORE",
        help="the model store: a directory or URL (MODEL_STORE; now %(default)s)",
    )
    parser.add_argument("--version", metavar="V", help="name of the new version (default: the time in UTC)")
    parser.add_argument(
        "--if-missing",
        action="store_true",
        help="do nothing if the model is there and intact: version V, or else the one that is served",
    )
    return parser


def _train(options: argparse.Namespace, default_model: str) -> None:
    """Train from the source that the options name.

    Raises:
        DatasetInvalid: if the source can't be trained from, or DEFAULT_MODEL is no built-in data set.
        ModelError: if the store can't take the version.
    """
    store = ModelStore(options.store)
    path: Path | None = options.csv or options.parquet
    name = options.name or (_model_name(path) if path else options.dataset or default_model)
    if options.if_missing and _is_there(store, name, options.version):
        return
    if options.if_missing and not (path or options.dataset) and name not in BUILT_IN:
        # Whoever starts the service after this command must not be kept from it: the gateway says so too.
        print(f"{name} is not in {store.root}, and no built-in data set: export it, and it will be served")
        return
    # Refused before minutes of training, and not after them.
    store.check_new(name, options.version or uuid.uuid4().hex, options.alias)
    # The example has the artifact that most readers expect, a `model.pkl`.
    is_example = path is None and (options.dataset or default_model) == "iris"
    _fit_and_export(
        _read_file(path, options) if path else _read_built_in(options, default_model),
        store,
        name,
        options.version,
        alias=options.alias,
        artifact_format=options.format or ("joblib" if is_example else None),
        trusted=[name for name in options.trusted.split(",") if name],
        samples=options.samples,
    )


def _read_built_in(options: argparse.Namespace, default_model: str) -> Dataset:
    if options.target or options.task or options.leave_out:
        raise DatasetInvalid("--target, --task and --leave-out are for files")
    name = options.dataset or default_model
    if name not in BUILT_IN:
        raise DatasetInvalid(
            f"DEFAULT_MODEL is {name!r}, which is no built-in data set ({', '.join(BUILT_IN)}): "
            "export that model yourself, or name a source (--dataset, --csv, --parquet)"
        )
    return load_built_in(name)


def _read_file(path: Path, options: argparse.Namespace) -> Dataset:
    if not options.target:
        raise DatasetInvalid("--target must say which column of the file to predict")
    # Imported here: it imports pandas, which `--if-missing` often does without.
    from training.tabular_file import read_dataset

    return read_dataset(
        path,
        "csv" if options.csv else "parquet",
        target=options.target,
        task=options.task,
        leave_out=options.leave_out,
    )


def _model_name(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", path.stem).strip("._-")[:64] or "model"


def _is_there(store: ModelStore, name: str, version: str | None) -> bool:
    """Tell whether a version can be served; print why, or why not, unless there is none at all."""
    ref = version or LATEST
    try:
        ref = version or served_alias(store.aliases(name))
        manifest = store.manifest(name, ref)
        store.artifact(manifest)
    except ModelNotFound:
        return False
    except ModelError as error:
        print(f"{name} {ref} is damaged: {one_line(str(error))}")
        return False
    print(f"{name} {manifest.version} is in {store.root} and intact: nothing to do")
    return True


def _fit_and_export(
    dataset: Dataset,
    store: ModelStore,
    name: str,
    version: str | None,
    *,
    alias: str = LATEST,
    artifact_format: "ArtifactFormat | None" = None,
    trusted: Collection[str] = (),
    samples: str = "synthetic",
) -> None:
    from headrace.exporting.exporter import export
    from training.evaluate import FOLDS, evaluate
    from training.pipeline import estimator_for

    estimator = estimator_for(dataset)
    final = type(estimator[-1] if hasattr(estimator, "steps") else estimator).__name__
    description = f"{final} on {dataset.name}"
    print(f"{description}: {_size(dataset)}")
    for note in dataset.notes:
        print(f"  {one_line(note)}")
    print(f"cross-validation, {FOLDS} folds:", end="", flush=True)
    try:
        evaluation = evaluate(estimator, dataset, started=lambda fold: print(f" {fold}", end="", flush=True))
    finally:
        print()
    _print_scores(evaluation)
    print("fitting on all rows")
    estimator.fit(dataset.rows, dataset.targets)
    exported = export(
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
        samples=samples,
    )
    if exported.new_store:
        print(f"made a new model store: {store.root}")
    print(f"written: {exported.location} (now {alias!r} of {name!r}), model card: card.html")
    for notice in exported.notices:
        print(f"notice: {one_line(notice)}")


def _size(dataset: Dataset) -> str:
    parts = [f"{len(dataset.targets)} rows", f"{len(dataset.feature_names)} features"]
    if dataset.task == "classification":
        parts.append(f"{len(set(dataset.targets.tolist()))} classes")
    return ", ".join(parts)


def _print_scores(evaluation: "Evaluation") -> None:
    width = max(map(len, evaluation.scores))
    for name, value in evaluation.scores.items():
        print(f"  {name:<{width}}  {value:>8.4f} ± {evaluation.deviations[name]:.4f}")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)
