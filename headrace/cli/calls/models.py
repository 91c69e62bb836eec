"""The commands that ask a gateway about itself: `models`, `describe`, `client-types`, `health`."""

import argparse
from typing import Any

from headrace.cli.calls.outcomes import REFUSED
from headrace.cli.calls.output import facts, print_document, text_of
from headrace.cli.table import print_table
from headrace.client.client import Client
from headrace.client.row_types import module_of
from headrace.terminal import one_line

VALUES_SHOWN = 8
"""Categories or classes that are printed at most."""

FACTS = ("created_at", "estimator", "training_rows", "input", "loaded_by", "moving", "trials", "refused")

HEALTH_FACTS = ("status", "reason", "broker_up", "workers", "queue", "jobs", "model", "version")


def no_options(parser: argparse.ArgumentParser) -> None:
    """Add none: `models` and `health` take no arguments of their own."""


def models(client: Client, options: argparse.Namespace) -> int:
    """Print the models of the gateway."""
    listed = client.models()
    if options.json:
        print_document({"models": listed})
        return 0
    rows = [(each["name"], _aliases(each), "default" if each.get("default") is True else "") for each in listed]
    print_table([("MODEL", "ALIASES", ""), *rows])
    return 0


def version_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `describe` and of `client-types`."""
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--version", metavar="V", help="a version or an alias (the one that answers)")


def describe(client: Client, options: argparse.Namespace) -> int:
    """Print the description of a version."""
    document = client.model(options.name, options.version)
    if options.json:
        print_document(document)
        return 0
    aliases = _aliases(document)
    print(one_line(f"{document['name']} {document['version']}" + (f" ({aliases})" if aliases else "")))
    if document.get("description"):
        print(one_line(text_of(document["description"])))
    scores = document.get("scores")
    rows = [
        *facts(document, FACTS),
        *((score, text_of(value)) for score, value in (scores if isinstance(scores, dict) else {}).items()),
        *((text_of(output.get("name")), _output(output)) for output in _objects(document.get("outputs"))),
    ]
    print_table([(f"  {label}", value) for label, value in rows])
    print("features")
    print_table([_feature(feature) for feature in document["features"]])
    return 0


def client_types(client: Client, options: argparse.Namespace) -> int:
    """Print a Python module with the types of a version's rows."""
    module = module_of(client.model(options.name, options.version))
    if options.json:
        print_document({"module": module})
    else:
        print(module, end="")
    return 0


def health(client: Client, options: argparse.Namespace) -> int:
    """Print the state of the gateway, and fail if it does not serve."""
    summary = client.health()
    if options.json:
        print_document(summary)
    else:
        print_table(facts(summary, HEALTH_FACTS))
    return 0 if summary["status"] == "ok" else REFUSED


def _aliases(document: dict[str, Any]) -> str:
    aliases = document.get("aliases")
    named = aliases.items() if isinstance(aliases, dict) else ()
    return ", ".join(f"{alias} {text_of(version)}" for alias, version in named)


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _output(output: dict[str, Any]) -> str:
    return f"one of {_first_of(output['classes'])}" if output.get("classes") else text_of(output.get("kind", ""))


def _feature(feature: dict[str, Any]) -> tuple[str, str, str]:
    if feature.get("categories"):
        values = _first_of(feature["categories"])
    elif feature.get("minimum") is not None:
        values = f"{text_of(feature['minimum'])} to {text_of(feature.get('maximum'))}"
    else:
        values = ""
    nullable = "or null" if feature.get("nullable") is True else ""
    return f"  {feature['name']}", text_of(feature.get("type", "")), ", ".join(filter(None, (values, nullable)))


def _first_of(values: Any) -> str:
    shown = values[:VALUES_SHOWN] if isinstance(values, list) else [values]
    return ", ".join(map(text_of, shown)) + (", …" if isinstance(values, list) and len(values) > VALUES_SHOWN else "")
