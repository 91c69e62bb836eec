"""Writes a fitted estimator into the model store as a new version: artifact, manifest and model card."""

import os
import platform
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from headrace.card.page import CARD_FILE, card
from headrace.data.answers import (
    Answers,
    ask,
    describe_outputs,
    first_difference,
    knows_probabilities,
    output_classes,
)
from headrace.data.features import describe
from headrace.data.rows import estimator_input
from headrace.data.table import Table, read_table
from headrace.data.targets import Truth, read_targets
from headrace.errors import NotExportable
from headrace.exporting.artifact import ArtifactFormat, read_artifact, write_artifact
from headrace.exporting.samples import sample_positions, samples
from headrace.models.alias import LATEST
from headrace.models.manifest import MANIFEST_FILE, Feature, Manifest
from headrace.models.store import DEFAULT_STORE, ModelStore

PREDICTED_ROWS_MAX = 20_000
"""Of more training rows, this many, evenly spaced, are predicted for the reference of the output and the checks."""


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
    scores: Mapping[str, float] | None = None,
    held_out: Any = None,
    feature_names: Sequence[str] | None = None,
    format: ArtifactFormat = "joblib",  # noqa: A002 - the manifest's word
    trusted: Collection[str] = (),
    extra_modules: Collection[str] = (),
) -> Manifest:
    """Add a version of a model to the store, with its manifest and model card, and point an alias to it.

    Args:
        estimator: fitted, with `predict`: a classifier, regressor, clusterer, outlier detector, or a Pipeline or
            search that ends in one; with one output per row or several.
        X: the rows that it was fitted on, as they were passed to `fit`: numbers of shape (n rows, n features), or a
            pandas DataFrame of numbers, texts, categories and booleans. Types, ranges and reference distributions of
            the features come from them; those of the outputs from what the estimator predicts for them, because that
            is what live predictions are compared with. Where values are missing, callers may send null.
        y: the targets, shape (n rows,) or (n rows, n outputs): for the card, the names of several outputs, and
            scores if there are none.
        version: by default the time, such as 20261123T124500Z (UTC), which sorts.
        store: a model store, or its folder or URL. By default that of the settings (MODEL_STORE).
        alias: the alias to point to the new version; None leaves all aliases.
        scores: what is known of its quality, by name. Without them and with `y`, scores on the training rows, named
            `training_…`, which flatter.
        held_out: predictions for X of models that had not seen them, as `cross_val_predict` gives: for the card,
            instead of predictions on the training rows.
        feature_names: for an array; by default those that the estimator was fitted with, else x0, x1, ….
        format: "joblib" (a pickle), or "skops", which executes nothing and loads known types only.
        trusted: types that a skops file may hold beside those that skops trusts by itself.
        extra_modules: top-level packages of yours that workers can import.

    Returns:
        The manifest, as read back from the store.

    Raises:
        NotExportable: if it can't be served; the message says why. Nothing was written.
        FileExistsError: if the version exists.
        ModelError: if name or version are not usable as such.
        OSError: if the store can't be written.
    """
    model_store = _store(store)
    table = read_table(estimator, X, feature_names)
    features = [describe(column) for column in table.columns]
    positions = np.unique(np.linspace(0, len(table) - 1, min(len(table), PREDICTED_ROWS_MAX)).astype(int)).tolist()
    in_memory = ask(estimator, table.at(positions), probabilities=False)
    classes = output_classes(estimator, in_memory.predictions)
    shares = knows_probabilities(estimator, table.at(positions), classes)
    targets = read_targets(estimator, y, len(table), len(classes))
    truth = Truth.of(targets, positions, in_memory.predictions, held_out)
    known_scores = dict(scores) if scores is not None else truth.scores()
    now = datetime.now(timezone.utc)
    version = version or now.strftime("%Y%m%dT%H%M%SZ")

    def write(folder: Path) -> None:
        artifact = write_artifact(estimator, folder, format=format, trusted=trusted, extra_modules=extra_modules)
        # The estimator as a worker gets it, not the one in memory, and the rows as a worker makes them.
        loaded = _Loaded(read_artifact(artifact, folder, trusted), table, features, shares)
        answers = loaded.ask(positions)
        _refuse_difference(
            in_memory, Answers(answers.predictions), "the stored estimator does not predict what the one in memory does"
        )
        chosen = sample_positions(table, positions, answers.predictions)
        try:
            manifest = Manifest(
                name=name,
                version=version,
                created_at=now.isoformat(timespec="seconds"),
                description=description,
                estimator=f"{type(estimator).__module__}.{type(estimator).__qualname__}",
                artifact=artifact,
                libraries=_libraries(table, format, extra_modules),
                features=features,
                input=table.form,
                outputs=describe_outputs(targets.names, classes, answers.predictions),
                probabilities=shares,
                training_rows=len(table),
                scores=known_scores,
                samples=samples(table.rows(chosen), loaded.ask_each(chosen)),
            )
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise NotExportable(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        (folder / MANIFEST_FILE).write_text(manifest.model_dump_json(indent=2) + "\n")
        (folder / CARD_FILE).write_text(card(manifest, estimator, table, truth), encoding="utf-8")

    model_store.add(name, version, write)
    if alias is not None:
        model_store.set_alias(name, alias, version)
    return model_store.manifest(name, version)


class _Loaded:
    """The estimator as stored, asked with rows as callers send them."""

    def __init__(self, estimator: Any, table: Table, features: Sequence[Feature], probabilities: bool) -> None:
        self._estimator, self._table, self._features = estimator, table, features
        self._probabilities = probabilities

    def ask(self, positions: list[int]) -> Answers:
        """What it says of training rows, asked for all at once."""
        rows = estimator_input(self._table.rows(positions), self._features, self._table.form)
        return ask(self._estimator, rows, probabilities=self._probabilities)

    def ask_each(self, positions: list[int]) -> Answers:
        """The same, after one by one gave the same.

        Raises:
            NotExportable: if it did not: a worker predicts rows of different callers together.
        """
        together = self.ask(positions)
        each = [self.ask([position]) for position in positions]
        shares = [np.concatenate(parts) for parts in zip(*(one.probabilities or () for one in each), strict=True)]
        alone = Answers(np.concatenate([one.predictions for one in each]), shares or None)
        _refuse_difference(together, alone, "what it predicts for a row depends on the other rows of the batch")
        return together


def _refuse_difference(expected: Answers, found: Answers, complaint: str) -> None:
    row = first_difference(expected, found)
    if row is not None:
        one, other = expected.plain(row), found.plain(row)
        differing = (one, other) if one[0] == other[0] else (one[0], other[0])
        raise NotExportable(f"{complaint}: row {row}: {differing[0]!r}, then {differing[1]!r}")


def _store(store: ModelStore | str | Path | None) -> ModelStore:
    if isinstance(store, ModelStore):
        return store
    return ModelStore(os.environ.get("MODEL_STORE", DEFAULT_STORE) if store is None else store)


def _libraries(table: Table, artifact_format: ArtifactFormat, extra_modules: Collection[str]) -> dict[str, str]:
    packages = ["scikit-learn", "numpy", "scipy", "joblib"]
    if table.form == "frame":
        packages.append("pandas")
    if artifact_format == "skops":
        packages.append("skops")
    distributions = metadata.packages_distributions() if extra_modules else {}
    packages += sorted({each for module in extra_modules for each in distributions.get(module, ())} - set(packages))
    return {"python": platform.python_version(), **{each: metadata.version(each) for each in packages}}
