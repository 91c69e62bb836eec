"""The README against the code."""

import re
from pathlib import Path

import pytest

from gateway.settings import GatewaySettings
from shared.settings import CommonSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]

COMPUTED_DEFAULTS = {
    "worker_concurrency": "one per core",
    "prometheus_multiproc_dir": "a folder of its own",
    "docs_enabled": "without API keys",
} | dict.fromkeys(
    ["api_keys_file", "model_public_key", "worker_models", "trusted_modules", "skops_trusted_types"], "none"
)


def settings_table() -> list[str]:
    fields = CommonSettings.model_fields | GatewaySettings.model_fields | WorkerSettings.model_fields
    rows = []
    for name, field in fields.items():
        default = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
        if isinstance(field.default, bool):
            default = default.lower()
        shown = COMPUTED_DEFAULTS.get(name, f"`{default}`")
        rows.append(f"| `{name.upper()}` | {shown} | {field.description} |")
    return rows


def test_the_settings_table_is_the_code() -> None:
    table = README.split("<!-- settings:")[1].split("<!-- /settings -->")[0].strip().splitlines()
    assert table[3:] == settings_table()


def test_it_says_the_two_commands_on_its_first_screen() -> None:
    first_screen = "\n".join(README.splitlines()[:24])
    assert "make up" in first_screen
    assert "make test" in first_screen
    assert "docker compose up --build" in first_screen


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z-]+)", "\n".join(path.read_text() for path in DOCUMENTS)))
    assert named & targets
    # "make" is also a word: what follows it in prose is no target.
    in_code = set(re.findall(r"`(?:\w+=\S+ )*make ([a-z-]+)", README))
    assert in_code <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_folders_that_are_named_exist() -> None:
    for folder in re.findall(r"`([a-z]+/)`", README):
        assert (ROOT / folder).is_dir(), folder
