"""The export of a fitted estimator into a model store, as a version with artifact, manifest and model card."""

import logging
import os
import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timezone
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np
from pydantic import ValidationError
from threadpoolctl import threadpool_limits

from headrace.card.page import CARD_FILE, card
from headrace.data.attributes import check_attributes
from headrace.data.features import describe
from headrace.data.forms import silent_about_names
from headrace.data.predictions import (
    PREDICTED_ROWS_MAX,
    Classes,
    Predictions,
    describe_outputs,
    first_difference,
    has_probabilities,
    output_classes,
    predict,
)
from headrace.data.rows import Layout
from headrace.data.table import Table, read_table
from headrace.data.targets import Comparison, read_targets
from headrace.errors import NotExportable, VersionExists
from headrace.exporting.artifact import ARTIFACT_FILES, ArtifactFormat, store_estimator
from headrace.exporting.exported import Exported
from headrace.exporting.independence import Stored, check_independence, refuse_difference
from headrace.exporting.probe import notices, probe
from headrace.exporting.samples import as_samples, check_wanted, golden_positions, public_rows
from headrace.models.alias import LATEST
from headrace.models.golden import write_golden_rows
from headrace.models.manifest import MANIFEST_FILE, SIGNATURE_FILE, AboutName, Artifact, Manifest, Sample
from headrace.models.store import DEFAULT_STORE, ModelStore

logger = logging.getLogger(__name__)

StoredAs = tuple[Artifact, Stored, Predictions]
"""An artifact, the estimator as it was read back, and its predictions."""


@silent_about_names()
def export(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    name: str,
    version: str | None = None,
    store: ModelStore | str | Path | None = None,
    alias: str | None = LATEST,
    description: str = "",
    about: Mapping[str, str] | None = None,
    scores: Mapping[str, float] | None = None,
    held_out: Any = None,
    feature_names: Sequence[str] | None = None,
    samples: Any = "synthetic",
    complete: bool = True,
    format: ArtifactFormat | None = None,  # noqa: A002 - the manifest's word
    trusted: Collection[str] = (),
    extra_modules: Collection[str] = (),
    signing_key: str | Path | None = None,
) -> Exported:
    """Add a version of a model to the store, with its manifest and model card, and point an alias to it.

    Args:
        estimator: a fitted classifier, regressor, clusterer or outlier detector, or a Pipeline or search that ends in
            one, with one output per row or several. It must have `predict`.
        X: the rows that it was fitted on, as they were passed to `fit`: numbers of shape (n rows, n features), or a
            pandas DataFrame of numbers, texts, categories and booleans. The types, ranges and reference distributions
            of the features are taken from them. The reference of the outputs is taken from the estimator's predictions
            for them, because live predictions are compared with it. Where values are missing, callers may send null.
        y: the targets, shape (n rows,) or (n rows, n outputs): for the card, for the names of several outputs, and
            for scores if none are given.
        name: the name of the model, 1 to 64 ASCII letters, digits, '.', '_' or '-', the first a letter or a digit.
        version: the name of the version; by default the time in UTC, such as 20261123T124500Z, which sorts; for the
            second version of a second 20261123T124500Z.250000.
        store: a model store, or its folder or URL; by default the one that the variable MODEL_STORE names, or `models`.
        alias: the alias to point to the new version; None leaves all aliases alone.
        description: a sentence for people, for the card.
        about: further facts for the card, of up to 2,000 characters: `owner`, `intended_use`, `limitations`, `license`,
            `commit`.
        scores: known scores of the estimator, by name. Without them and with `y`, scores on the training rows are
            computed; they are named `training_…` because they flatter.
        held_out: predictions for X by models that were not fitted on the row, as `cross_val_predict` returns them. The
            card shows them instead of predictions for the training rows.
        feature_names: names for the columns of an array; by default those that the estimator was fitted with, or x0,
            x1, ….
        samples: the rows that anyone who reaches the gateway may see, with their predictions: "synthetic" for made-up
            rows, drawn from the reference distributions; "none", so that examples are placeholders; or at most 20 rows
            in the form of X, or as dictionaries, that you allow to be public. The training rows by which workers check
            the model stay in the model store in any case.
        complete: False if X has some of the training rows only: then the manifest does not tell their number, and drift
            can't be judged.
        format: "skops", which executes nothing and loads known types only, or "joblib" (a pickle). By default skops,
            and joblib where skops can't store the estimator, or holds types that it does not trust by itself.
        trusted: types that a skops file may hold beside those that skops trusts by itself.
        extra_modules: your own top-level packages that workers can import.
        signing_key: a file with an Ed25519 private key, as PEM: the version is signed before anybody else can see it
            (extra `[sign]`).

    Returns:
        The manifest, as read back from the store, where it was written, and notices, such as the names of columns that
        the estimator drops. A notebook shows it as a short card.

    Raises:
        NotExportable: if the estimator can't be served; the message says why. Nothing was written.
        VersionExists: if the version exists.
        NameInvalid: if the name, the version or the alias can't be one.
        ModelError: if the key can't be used, or the store can't be written.
    """
    signed = _signing(signing_key) if signing_key is not None else None
    model_store = _store(store)
    now = datetime.now(timezone.utc)
    chosen = version or _free_version(model_store, name, now)
    # Everything that can be refused without the estimator: it may take minutes to predict its training rows.
    model_store.check_new(name, chosen, alias)
    check_wanted(samples)
    if format not in (None, *ARTIFACT_FILES):
        raise NotExportable(f"format is {format!r}: it is {' or '.join(map(repr, ARTIFACT_FILES))}")
    trusted, extra_modules = _names(trusted), _names(extra_modules)
    is_new = not model_store.exists()
    check_attributes(estimator)
    table = read_table(estimator, X, feature_names)
    features = [describe(column) for column in table.columns]
    positions = np.unique(np.linspace(0, len(table) - 1, min(len(table), PREDICTED_ROWS_MAX)).astype(int)).tolist()
    in_memory = predict(estimator, table.at(positions), probabilities=False)
    classes = output_classes(estimator, in_memory.values)
    shares = has_probabilities(estimator, table.at(positions), classes)
    targets = read_targets(estimator, y, len(table), len(classes))
    comparison = Comparison.of(targets, positions, in_memory.values, held_out)
    known_scores = dict(scores) if scores is not None else comparison.scores()

    def write(folder: Path) -> None:
        rows = table.rows(positions)

        def store_as(choice: ArtifactFormat) -> StoredAs:
            artifact, read = store_estimator(
                estimator, folder, format=choice, trusted=trusted, extra_modules=extra_modules
            )
            # The estimator as a worker loads it, not the one in memory, and the rows as a worker converts them.
            stored = Stored(read, Layout(table.form, features, table.filled), shares)
            predictions = stored.predict(rows)
            _refuse_change(estimator, table.at(positions), in_memory, Predictions(predictions.values))
            return artifact, stored, predictions

        artifact, stored, predictions = store_as(format) if format else _stored_by_default(store_as, folder)
        golden = np.searchsorted(positions, golden_positions(table, positions, predictions.values)).tolist()
        # Workers have one thread too: for a few rows, threads wait for each other many times as long as they compute.
        with threadpool_limits(1, user_api="openmp"):
            check_independence(stored, rows, predictions, golden)
            described = probe(stored, table.columns, rows[golden[0]])
            shown = _shown(stored, public_rows(samples, features, stored.predict), classes)
        try:
            manifest = Manifest(
                name=name,
                version=chosen,
                created_at=now.isoformat(timespec="seconds"),
                description=description,
                about=cast("dict[AboutName, str]", dict(about or {})),
                estimator=f"{type(estimator).__module__}.{type(estimator).__qualname__}",
                artifact=artifact,
                libraries=_libraries(table, artifact.format, extra_modules),
                features=described,
                input=table.form,
                filled=table.filled,
                outputs=describe_outputs(targets.names, classes, predictions.values),
                probabilities=shares,
                training_rows=len(table) if complete else None,
                scores=known_scores,
                samples=shown,
                golden=write_golden_rows(
                    folder, as_samples([rows[at] for at in golden], predictions.at(golden), classes)
                ),
            )
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise NotExportable(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        content = f"{manifest.model_dump_json(indent=2)}\n".encode()
        (folder / MANIFEST_FILE).write_bytes(content)
        if signed is not None:
            (folder / SIGNATURE_FILE).write_bytes(signed(content))
        (folder / CARD_FILE).write_text(card(manifest, estimator, table, comparison), encoding="utf-8")

    try:
        model_store.add(name, chosen, write)
    except VersionExists:
        if version:
            raise
        # Another process has added a version of this second meanwhile.
        chosen = _free_version(model_store, name, datetime.now(timezone.utc))
        model_store.add(name, chosen, write)
    if alias is not None:
        model_store.set_alias(name, alias, chosen)
    written, location = model_store.manifest(name, chosen), model_store.location(name, chosen)
    return Exported(written, location, alias, (*_notices(table), *notices(written.features)), is_new)


def _stored_by_default(store_as: Callable[[ArtifactFormat], StoredAs], folder: Path) -> StoredAs:
    """Store an estimator as skops, or as joblib if skops can't."""
    try:
        return store_as("skops")
    except NotExportable as error:
        logger.info("stored as joblib, which is a pickle: %s", error)
        (folder / ARTIFACT_FILES["skops"]).unlink(missing_ok=True)
    return store_as("joblib")


def _shown(stored: Stored, rows: list[list[Any]], classes: Sequence[Classes | None]) -> list[Sample]:
    if not rows:
        return []
    predictions = stored.predict(rows)
    check_independence(stored, rows, predictions, range(len(rows)))
    return as_samples(rows, predictions, classes)


def _refuse_change(estimator: Any, rows: Any, in_memory: Predictions, stored: Predictions) -> None:
    """Refuse an estimator that predicts otherwise since it was stored, or from one call to the next."""
    if first_difference(in_memory, stored) is not None:
        again = predict(estimator, rows, probabilities=False)
        refuse_difference(in_memory, again, "two predictions of the same rows differ: it draws at random")
    refuse_difference(in_memory, stored, "the stored estimator and that in memory differ")


def _notices(table: Table) -> tuple[str, ...]:
    return tuple(
        f"{name}: the estimator drops this column, so it is no feature of the model, and callers don't send it"
        for name in table.dropped
    )


def _signing(key_file: str | Path) -> Callable[[bytes], bytes]:
    """Return the function that signs a manifest."""
    # Imported here because it imports OpenSSL.
    from headrace.models.signing import read_private_key

    return read_private_key(Path(key_file)).sign


def _store(store: ModelStore | str | Path | None) -> ModelStore:
    if isinstance(store, ModelStore):
        return store
    return ModelStore(os.environ.get("MODEL_STORE", DEFAULT_STORE) if store is None else store)


def _free_version(store: ModelStore, name: str, now: datetime) -> str:
    """Return the time as a version; the second one of a second has its microseconds too, and so sorts after the first.

    Raises:
        NameInvalid: if the name can't be that of a model.
    """
    version = now.strftime("%Y%m%dT%H%M%SZ")
    try:
        store.check_new(name, version)
    except VersionExists:
        return f"{version}.{now:%f}"
    return version


def _names(names: Collection[str]) -> tuple[str, ...]:
    """Return a collection of names; a lone text is one name, and not a collection of letters."""
    return (names,) if isinstance(names, str) else tuple(names)


def _libraries(table: Table, artifact_format: ArtifactFormat, extra_modules: Collection[str]) -> dict[str, str]:
    packages = ["scikit-learn", "numpy", "scipy", "joblib"]
    if table.form in ("frame", "series"):
        packages.append("pandas")
    if artifact_format == "skops":
        packages.append("skops")
    packages += sorted({each for module in extra_modules for each in _distributions(module)} - set(packages))
    return {"python": platform.python_version(), **{each: _version(each) for each in packages}}


@cache
def _version(package: str) -> str:
    """Return the version of an installed package; reads its files."""
    return metadata.version(package)


@cache
def _distributions(module: str) -> Sequence[str]:
    """Return the distributions that installed a module; reads the files of all, which takes a third of a second."""
    return metadata.packages_distributions().get(module, ())
