"""The public model card: what a manifest tells, and nothing else of the training rows, as a page."""

import json
import math
import shlex
from collections.abc import Mapping
from html import escape
from typing import Any

from headrace.models.made_up import example_row, flat_row
from headrace.models.manifest import Feature, Manifest, Output, Reference, Sample
from headrace.page.drawing import bars, short
from headrace.page.markup import (
    PAGE_BYTES,
    as_fits,
    document,
    facts,
    figure,
    grid,
    header,
    kind_of,
    reference_table,
    scores,
    section,
)

BARS_SHOWN = 20
SAMPLES_SHOWN = 5
_VALUE_CHARACTERS = 1_000


def public_card(manifest: Manifest, url: str) -> str:
    """Return the page of a version.

    Args:
        manifest: the manifest of the version.
        url: the address of the version on a gateway, as the example request is to name it.
    """
    outputs = (_output(each, len(manifest.outputs) > 1) for each in manifest.outputs)
    features = (_feature(each) for each in manifest.features)
    n_features = len(manifest.features)
    sections = [
        header(manifest),
        section("Scores", scores(manifest)),
        section("Example request", _request(flat_row(manifest, _short_row(manifest)), url)),
        section("Samples", _samples(manifest)) if manifest.samples else "",
        section("Predictions", grid(as_fits(outputs, PAGE_BYTES // 3, len(manifest.outputs)))),
        section(f"Features ({n_features})", grid(as_fits(features, PAGE_BYTES // 3, n_features))),
        section("Made with", facts(manifest.libraries)),
    ]
    return document(manifest, sections)


def _short_row(manifest: Manifest) -> list[Any]:
    """Return the example row with the shortest numbers of four digits or more within the ranges of training."""
    return [_short_value(*each) for each in zip(example_row(manifest), manifest.features, strict=True)]


def _short_value(value: Any, feature: Feature) -> Any:
    if not isinstance(value, float) or value.is_integer() or feature.known is not None:
        return value
    low = -math.inf if feature.minimum is None else feature.minimum
    high = math.inf if feature.maximum is None else feature.maximum
    shorter = (float(f"{value:.{digits}g}") for digits in range(4, 17))
    return next((each for each in shorter if low <= each <= high), value)


def _request(row: Mapping[str, Any], url: str) -> str:
    body = shlex.quote(json.dumps(row, ensure_ascii=False))
    return _code(f"curl {url}/predict -H 'Content-Type: application/json' -d {body}", PAGE_BYTES // 10)


def _samples(manifest: Manifest) -> str:
    shown = [
        figure(_prediction(sample), _code(json.dumps(flat_row(manifest, sample.row), ensure_ascii=False)))
        for sample in manifest.samples[:SAMPLES_SHOWN]
    ]
    return grid(as_fits(shown, PAGE_BYTES // 10, len(shown)))


def _prediction(sample: Sample) -> str:
    return _short_text(json.dumps(sample.prediction, ensure_ascii=False), _VALUE_CHARACTERS)


def _code(text: str, characters: int = _VALUE_CHARACTERS) -> str:
    return f"<pre>{escape(_short_text(text, characters))}</pre>"


def _short_text(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[:characters]}…"


def _output(output: Output, named: bool) -> str:
    kind = kind_of(output)
    return figure(f"{output.name}: {kind}" if named else kind.capitalize(), _distribution(output.reference))


def _feature(feature: Feature) -> str:
    known = [feature.type if feature.dtype in (feature.type, "float64") else f"{feature.type} ({feature.dtype})"]
    if feature.minimum is not None and feature.maximum is not None:
        known.append(f"{short(feature.minimum)} to {short(feature.maximum)}")
    if feature.nullable:
        known.append("may be missing")
    return figure(feature.name, f"<p>{escape(' · '.join(known))}</p>{_distribution(feature.reference)}")


def _distribution(reference: Reference) -> str:
    if reference.edges is not None:
        return reference_table(reference, reference.ratios)
    pairs = sorted(zip(reference.bins, reference.ratios, strict=True), key=lambda pair: -pair[1])[:BARS_SHOWN]
    hidden = len(reference.bins) - len(pairs)
    return bars(*zip(*pairs, strict=True)) + (f"<p>and {hidden} rarer ones</p>" if hidden else "")
