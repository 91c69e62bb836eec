"""The commands that check models: `verify` those in a store, `export-check` one that is still in a file.

`headrace export-check MODEL --rows ROWS` tells before an export whether it would succeed. MODEL is a file that
`joblib.dump` wrote from a fitted estimator, ROWS a CSV or Parquet file with the rows that it was fitted on. The whole
export runs, into a temporary folder; no model store is read or written. Loading a joblib file executes its content:
check only your own.
"""

import argparse
import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.cli.arguments import add_store_command, add_timeout, versions_of
from headrace.cli.limited import within
from headrace.cli.numbers import count
from headrace.errors import HeadraceError, ModelNotFound, NotExportable
from headrace.models.store import ModelStore
from headrace.terminal import one_line

if TYPE_CHECKING:
    from headrace.models.manifest import Manifest
    from headrace.models.signing import PublicKeys


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `verify` and `export-check`."""
    command = add_store_command(
        subparsers, "verify", _verify, "check digests, load the models and predict their samples and golden rows"
    )
    command.add_argument("name", nargs="?", metavar="NAME", help="only this model")
    command.add_argument("ref", nargs="?", metavar="REF", help="only this version or alias")
    command.add_argument(
        "--trusted",
        default=os.environ.get("SKOPS_TRUSTED_TYPES", ""),
        metavar="TYPE,...",
        help="types that skops artifacts may hold (SKOPS_TRUSTED_TYPES)",
    )
    command.add_argument(
        "--trusted-modules",
        default=os.environ.get("TRUSTED_MODULES", ""),
        metavar="M,...",
        help="modules of which joblib artifacts may use everything (TRUSTED_MODULES)",
    )
    command.add_argument(
        "--public-key",
        type=Path,
        default=os.environ.get("MODEL_PUBLIC_KEY") or None,
        metavar="FILE",
        help="public keys one of which must have signed each version (MODEL_PUBLIC_KEY; default: none)",
    )
    command.add_argument(
        "--memory-budget",
        type=count,
        default=os.environ.get("WORKER_MEMORY_BUDGET_BYTES") or "2000000000",
        metavar="BYTES",
        help="bytes to which an artifact may unpack (WORKER_MEMORY_BUDGET_BYTES, %(default)s)",
    )
    add_timeout(command, "the load of a version and the check of its rows")

    command = subparsers.add_parser(
        "export-check",
        help="check whether a fitted estimator can be exported, without writing to a store",
        description="Load a fitted estimator from a joblib file (which executes the file: use it for your own only), "
        "and export it into a temporary folder with the rows that it was fitted on.",
    )
    command.add_argument("model", type=Path, metavar="MODEL", help="a file that joblib.dump wrote")
    command.add_argument("--rows", type=Path, required=True, metavar="FILE", help="training rows: .csv or .parquet")
    command.add_argument("--target", metavar="COLUMN", help="the column of the targets, which is no feature")
    command.add_argument("--format", choices=["joblib", "skops"], help="default: skops, joblib where skops can't")
    command.add_argument("--trusted", default="", metavar="TYPE,...", help="types that a skops artifact may hold")
    command.add_argument("--extra-modules", default="", metavar="M,...", help="your packages that workers can import")
    add_timeout(command, "the whole check")
    command.set_defaults(run=_export_check)


def _verify(store: ModelStore, options: argparse.Namespace) -> int:
    # Imported here because it imports scikit-learn, which takes seconds.
    from headrace.exporting.verify import verify

    if options.ref:
        chosen = [(options.name, store.resolve(options.name, options.ref))]
    else:
        chosen = list(versions_of(store, options.name))
    if not chosen:
        raise ModelNotFound(f"there are no models in {store.root}")
    signers = _signers(options.public_key)
    exit_code = 0
    trusted, modules = _names(options.trusted), _names(options.trusted_modules)
    for name, version in chosen:

        def check(name: str = name, version: str = version) -> int:
            return verify(store, store.manifest(name, version), trusted, modules, signers, options.memory_budget)

        try:
            rows = within(options.timeout, f"{name} {version}", check)
        except HeadraceError as error:
            print(f"headrace: {one_line(str(error))}", file=sys.stderr)
            exit_code = 1
        else:
            predicts = f"predicts {rows} rows as at its export" if rows else "has no rows to predict"
            print(f"{name} {version} is intact and {predicts}")
    return exit_code


def _signers(path: Path | None) -> "PublicKeys | None":
    if path is None:
        return None
    # Imported only where signatures are asked for, because it loads OpenSSL.
    from headrace.models.signing import PublicKeys

    return PublicKeys.read(path)


def _export_check(options: argparse.Namespace) -> int:
    # Imported before the fork, so that a missing library is said as elsewhere.
    from headrace.exporting.exporter import export

    def check() -> tuple[str, tuple[str, ...]]:
        estimator, rows, targets = _load(options)
        with _foreign_errors_named(estimator):
            exported = export(
                estimator,
                rows,
                targets,
                name="checked",
                store=folder,
                format=options.format,
                trusted=_names(options.trusted),
                extra_modules=_names(options.extra_modules),
            )
        return _summary(exported.manifest), exported.notices

    with tempfile.TemporaryDirectory(prefix="headrace-check-") as folder:
        summary, notices = within(options.timeout, str(options.model), check)
    print(f"{options.model} can be exported: {summary}")
    for notice in notices:
        print(f"notice: {one_line(notice)}")
    return 0


@contextmanager
def _foreign_errors_named(estimator: Any) -> Iterator[None]:
    """Turn an error of the estimator's own code, at a place where no library raises any, into one with that place."""
    try:
        yield
    except (HeadraceError, OSError):
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in {place.filename}, line {place.lineno}"
        raise NotExportable(f"{type(estimator).__name__} can't be exported: {where}") from error


def _load(options: argparse.Namespace) -> tuple[Any, Any, Any]:
    """Return the estimator, its training rows as a data frame, and the targets or None.

    Raises:
        NotExportable: if a file can't be read, or the rows lack a column.
        OSError: if there is no such file.
    """
    import joblib
    import pandas as pd

    from headrace.data.attributes import fitted_names

    readers = {".csv": pd.read_csv, ".parquet": pd.read_parquet}
    read = readers.get(options.rows.suffix.lower())
    if read is None:
        raise NotExportable(f"{options.rows}: rows are read from {' and '.join(readers)} files")
    try:
        frame = read(options.rows)
        estimator = joblib.load(options.model)
    except OSError:
        raise
    except Exception as error:
        # Unpickling and the parsers raise errors of any kind, and pandas an ImportError where it has no Parquet reader.
        raise NotExportable(f"not readable: {type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    fitted = fitted_names(estimator)
    names = [name for name in frame.columns if name != options.target] if fitted is None else fitted
    absent = [name for name in [*names, options.target] if name is not None and name not in frame.columns]
    if absent:
        raise NotExportable(f"{options.rows} has no column {absent[0]!r}; it has {', '.join(map(str, frame.columns))}")
    rows = frame[names]
    if len(names) == 1 and fitted is None and rows.dtypes.iloc[0].kind not in "biuf":
        # The estimator was not fitted on a frame, and an array of texts has one dimension.
        rows = frame[names[0]]
    return estimator, rows, None if options.target is None else frame[options.target]


def _summary(manifest: "Manifest") -> str:
    artifact = manifest.artifact
    return (
        f"{manifest.estimator.rpartition('.')[2]}, {len(manifest.features)} features, {len(manifest.outputs)} outputs, "
        f"{artifact.size_bytes:,} bytes as {artifact.format}"
    )


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]
