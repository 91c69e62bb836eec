"""Parts of an HTML page about a version: one document that loads nothing."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise

from headrace.models.fields import INPUT_FORMS
from headrace.models.manifest import Manifest, Output, Reference
from headrace.page.drawing import short
from headrace.page.style import STYLE

PAGE_BYTES = 250_000
"""Size of a page, in characters, beyond which features and outputs are left out."""


def document(manifest: Manifest, sections: Sequence[str]) -> str:
    """Return the page of a version."""
    title = escape(f"{manifest.name} {manifest.version}")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}: model card</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style></head>\n<body><main>{''.join(sections)}</main></body></html>\n"
    )


def header(manifest: Manifest) -> str:
    """Return the name of a version, and the facts that its manifest tells."""
    artifact = manifest.artifact
    about = {name.replace("_", " ").capitalize(): text for name, text in manifest.about.items()}
    known = {
        "Created": manifest.created_at.replace("T", " ").replace("+00:00", " UTC"),
        "Estimator": manifest.estimator,
        **({} if manifest.training_rows is None else {"Training rows": f"{manifest.training_rows:,}"}),
        "Predicts": ", ".join(_named_kind(output) for output in manifest.outputs[:4])
        + (", …" if len(manifest.outputs) > 4 else ""),
        "Probabilities": "yes" if manifest.probabilities else "no",
        "Takes rows as": INPUT_FORMS[manifest.input],
        "Artifact": f"{artifact.file}, {artifact.size_bytes:,} bytes, {artifact.format}",
        "SHA-256": artifact.sha256,
    }
    description = f"<p>{escape(manifest.description)}</p>" if manifest.description else ""
    return (
        f"<header><h1>{escape(manifest.name)} <small>{escape(manifest.version)}</small></h1>{description}"
        f"{facts(about) if about else ''}{facts(known)}</header>"
    )


def _named_kind(output: Output) -> str:
    name = "" if output.name == "prediction" else f"{output.name}: "
    return name + kind_of(output)


def kind_of(output: Output) -> str:
    """Return what an output predicts, in words."""
    return "a number" if output.classes is None else f"one of {len(output.classes)} classes"


def scores(manifest: Manifest) -> str:
    """Return the scores of a version."""
    if not manifest.scores:
        return "<p>None were given.</p>"
    cells = "".join(
        f"<div><b>{short(value)}</b><span>{escape(name.replace('_', ' '))}</span></div>"
        for name, value in manifest.scores.items()
    )
    flattering = any(name.startswith("training_") for name in manifest.scores)
    note = "<p>Measured on the rows that the model was fitted on, which flatters it.</p>" if flattering else ""
    return f'<div class="scores">{cells}</div>{note}'


def reference_table(reference: Reference, shares: Iterable[float]) -> str:
    """Return the bins of a reference distribution with their shares, which are fractions of 1."""
    ranges = reference.bins
    if reference.edges is not None:
        edges = [short(edge) for edge in reference.edges]
        ranges = [
            f"up to {edges[0]}",
            *(f"{low} to {high}" for low, high in pairwise(edges)),
            f"above {edges[-1]}",
            *reference.bins[len(edges) + 1 :],
        ]
    return table([label, f"{share:.1%}"] for label, share in zip(ranges, shares, strict=True))


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return a table of texts."""
    lines = (f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{''.join(lines)}</table>"


def as_fits(parts: Iterable[str], budget: int, n_parts: int) -> str:
    """Join the first of so many parts, at least one, as many as fit into `budget` characters."""
    fitting: list[str] = []
    for part in parts:
        budget -= len(part)
        if fitting and budget < 0:
            break
        fitting.append(part)
    hidden = n_parts - len(fitting)
    return "".join(fitting) + (f"<p>and {hidden} more</p>" if hidden > 0 else "")


def grid(content: str) -> str:
    """Return figures side by side."""
    return f'<div class="grid">{content}</div>'


def figure(caption: str, content: str, kind: str = "") -> str:
    """Return a figure."""
    return f'<figure class="{kind}"><figcaption>{escape(caption)}</figcaption>{content}</figure>'


def section(title: str, content: str) -> str:
    """Return a section of the page."""
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def facts(known: Mapping[str, str]) -> str:
    """Return facts by name."""
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in known.items())
    return f"<dl>{items}</dl>"
