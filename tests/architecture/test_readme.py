"""The README, the table of settings and the links of all documents against the code."""

import re
from pathlib import Path

import pytest

from gateway.rpc.settings import GrpcSettings
from shared.settings import CommonSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]

COMPUTED_DEFAULTS = {
    "worker_concurrency": "one per core",
    "prometheus_multiproc_dir": "a folder of its own",
    "docs_enabled": "without API keys",
    "job_results_max_bytes": "half of Redis' `maxmemory`, or 1 GB",
    "text_max_characters": "by feature",
    "owner_jobs_open_max": "half of `JOBS_OPEN_MAX`",
    "owner_job_bytes_max": "45 % of Redis' `maxmemory`",
} | dict.fromkeys(
    [
        "api_keys_file",
        "cors_origins",
        "grpc_tls_certificate",
        "grpc_tls_client_ca",
        "grpc_tls_key",
        "model_public_key",
        "root_path",
        "skops_trusted_types",
        "trusted_modules",
        "trusted_proxies",
        "worker_models",
    ],
    "none",
)


def settings_table() -> list[str]:
    """Return the rows of the table as the settings classes give them.

    Subclasses add their fields to the common ones.
    """
    fields = CommonSettings.model_fields | GrpcSettings.model_fields | WorkerSettings.model_fields
    rows = []
    for name, field in fields.items():
        default = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
        if isinstance(field.default, bool):
            default = default.lower()
        shown = COMPUTED_DEFAULTS.get(name, f"`{default}`")
        rows.append(f"| `{name.upper()}` | {shown} | {field.description} |")
    return rows


def test_the_settings_table_is_the_code() -> None:
    page = (ROOT / "docs" / "settings.md").read_text()
    tables = page.split("<!-- settings:")[1].split("<!-- /settings -->")[0].splitlines()
    rows = [line for line in tables if line.startswith("| `")]
    assert rows == settings_table(), "write the rows anew:\n" + "\n".join(settings_table())


def test_it_says_the_two_commands_on_its_first_screen() -> None:
    first_screen = "\n".join(README.splitlines()[:24])
    assert "git clone" in first_screen
    assert "make up" in first_screen
    assert "make test" in first_screen
    assert "docker compose up --build" in first_screen


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 140


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    # Only in code: "make" is also a word, and the word after it in prose is not a target.
    in_code = {
        target for page in DOCUMENTS for target in re.findall(r"`(?:\w+=\S+ )*make ([a-z-]+)", page.read_text("utf-8"))
    }
    assert in_code
    assert in_code <= targets


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_need_no_activated_environment(document: Path) -> None:
    if "headrace() {" in document.read_text("utf-8"):
        return  # The runbook defines it for both ways of running.
    blocks = re.findall(r"^```(?:sh|console)\n(.*?)^```", document.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    bare = [
        line
        for block in blocks
        for line in block.splitlines()
        if re.match(r"(\$ )?(\w+=\S+ )*(python|headrace) ", line)
    ]
    assert bare == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", document.read_text("utf-8")):
        if target.startswith("http"):
            continue
        page = document.parent / target if target else document
        assert page.exists(), target
        if anchor and page.suffix == ".md":
            assert anchor in anchors(page), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Return the names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_in_the_list_of_pages() -> None:
    listed = re.findall(r"\]\((\w[\w-]*\.md)\)", (ROOT / "docs/README.md").read_text("utf-8"))

    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} <= set(listed)


def test_folders_that_are_named_exist() -> None:
    for folder in re.findall(r"`([a-z]+/)`", README):
        assert (ROOT / folder).is_dir(), folder
