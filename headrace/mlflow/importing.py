"""The import of a model of MLflow: its files are read, and its estimator is exported as one that was fitted here."""

import traceback
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from headrace.errors import HeadraceError, MlflowUnusable
from headrace.exporting.exported import Exported
from headrace.exporting.exporter import export
from headrace.mlflow.estimator import check_version, read_estimator
from headrace.mlflow.folders import Folder
from headrace.mlflow.limits import MODEL_MAX_BYTES
from headrace.mlflow.mlmodel import MlflowModel, read_model
from headrace.mlflow.rows import as_fitted, example_frame, read_data
from headrace.models.store import ModelStore

SAMPLES_MAX = 20
"""Rows of the input example that become samples: as many as `export` takes."""

FEW_ROWS = 100


@dataclass(frozen=True)
class ImportRules:
    """Choices of the person who imports."""

    data: Path | None = None
    """A CSV or Parquet file with the rows that the estimator was fitted on."""
    target: str | None = None
    """Column of `data` with the targets."""
    samples: Literal["example", "synthetic", "none"] = "example"
    """Rows that callers see: the input example, made-up rows, or none."""
    trusted: Collection[str] = ()
    extra_modules: Collection[str] = ()
    trust_pickle: bool = False
    signing_key: Path | None = None
    """File of the private key that signs the version."""
    max_bytes: int = MODEL_MAX_BYTES
    """Bytes of the model's file, and of what it unpacks to."""


def import_model(
    folder: Folder,
    where: str,
    store: ModelStore,
    name: str,
    rules: ImportRules,
    *,
    version: str | None = None,
    alias: str | None = None,
    description: str = "",
) -> Exported:
    """Export the estimator in a folder of MLflow into a model store; all checks of `export` are made.

    Raises:
        MlflowUnusable: if the model can't be read.
        HeadraceError, OSError: as in `export`.
    """
    model = read_model(folder, where)
    check_version(model, where)
    content = folder(model.file, rules.max_bytes)
    estimator = read_estimator(
        model,
        content,
        where,
        trusted=rules.trusted,
        extra_modules=rules.extra_modules,
        trust_pickle=rules.trust_pickle,
        max_bytes=rules.max_bytes,
    )
    example = example_frame(model)
    frame = example if rules.data is None else read_data(rules.data)
    if frame is None:
        raise MlflowUnusable(
            f"{where}: it has no input example from which the features could be known: name a file with the rows that "
            "it was fitted on (--data)"
        )
    left_out = [rules.target] if rules.target is not None else []
    rows, names = as_fitted(frame, model, estimator, left_out)
    if rules.target is not None and rules.target not in frame.columns:
        raise MlflowUnusable(f"the rows have no column {rules.target!r} for the targets")
    try:
        exported = export(
            estimator,
            rows,
            None if rules.target is None else frame[rules.target],
            name=name,
            version=version,
            store=store,
            alias=alias,
            description=description,
            feature_names=names,
            samples=_samples(rules, example, model, estimator),
            complete=rules.data is not None,
            # Not `trusted`: workers read what skops does not trust by itself as joblib, without a setting of theirs.
            extra_modules=rules.extra_modules,
            signing_key=rules.signing_key,
        )
    except (HeadraceError, OSError):
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise MlflowUnusable(
            f"{where}: {type(error).__name__} in {place.filename}, line {place.lineno}: {error}"
        ) from error
    return exported


def notices_of(exported: Exported, rules: ImportRules) -> list[str]:
    """Return sentences that whoever imported the version should read."""
    rows = exported.manifest.training_rows
    if rows is not None and rows >= FEW_ROWS:
        return [*exported.notices]
    few = "the input example" if rows is None else f"{rows} rows"
    notice = (
        f"its reference distributions are those of {few}, too few rows to notice drift: --data names a file with the "
        "rows that it was fitted on"
    )
    return [*exported.notices, notice]


def _samples(rules: ImportRules, example: Any, model: MlflowModel, estimator: Any) -> Any:
    if rules.samples != "example":
        return rules.samples
    if example is None:
        return "synthetic"
    rows, names = as_fitted(example.head(SAMPLES_MAX), model, estimator)
    if not hasattr(rows, "columns"):
        return rows.tolist() if names is None else [dict(zip(names, row, strict=True)) for row in rows.tolist()]
    return rows
