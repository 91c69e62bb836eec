"""A clone of the project, and what the guide has a person put into it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import certifi

from tests.support.processes import REPOSITORY

GUIDE = (REPOSITORY / "docs/compose.md").read_text("utf-8")
OPERATE = (REPOSITORY / "docs/operate.md").read_text("utf-8")
README = (REPOSITORY / "README.md").read_text("utf-8")
RUNBOOK = (REPOSITORY / "docs/runbook.md").read_text("utf-8")
SECURITY = (REPOSITORY / "SECURITY.md").read_text("utf-8")

NEEDED = (
    *(
        "docker-compose.yml",
        "docker-compose.s3.yml",
        "docker-compose.tls.yml",
        "Dockerfile.gateway",
        "Dockerfile.worker",
        ".dockerignore",
    ),
    *("deploy", "gateway", "headrace", "monitoring", "requirements", "shared", "training", "worker"),
)


def make_clone(folder: Path) -> None:
    """Copy what `docker compose` reads, with the modes of a clone under umask 077, then open what the guide says."""
    folder.mkdir()
    pack = f"tar --create --exclude=__pycache__ {' '.join(NEEDED)}"
    extract = f"(umask 077; tar --extract --no-same-permissions --directory {folder})"
    subprocess.run(["sh", "-ec", f"{pack} | {extract}"], cwd=REPOSITORY, check=True)
    assert not (folder / "gateway/__main__.py").stat().st_mode & 0o077
    [opening] = [each for each in code("sh", GUIDE, "A strict umask") if "chmod" in each]
    subprocess.run(["sh", "-ec", opening], cwd=folder, check=True)


def code(language: str, document: str, chapter: str) -> list[str]:
    """Return the blocks of code in a chapter of a document."""
    [text] = [part for part in re.split(r"^##+ ", document, flags=re.MULTILINE) if part.startswith(f"{chapter}\n")]
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def use_package_index(folder: Path) -> None:
    """Give the builds this machine's configuration of pip, by the secrets that the guide describes."""
    [override] = code("yaml", GUIDE, "Behind a mirror or an authority of your own")
    (folder / "docker-compose.override.yml").write_text(override)
    settings = _pip_settings()
    authorities = settings.pop("cert", None) or certifi.where()
    shutil.copyfile(authorities, folder / "ca.pem")
    lines = [f"{name} = {value}" for name, value in {**settings, "cert": "/run/secrets/ca.pem"}.items()]
    (folder / "pip.conf").write_text("\n".join(["[global]", *lines, ""]))


def _pip_settings() -> dict[str, str]:
    """Return the settings of pip that lead to its index. Folders of this machine are not in the container."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # Environment variables come first, as they win.
    settings: dict[str, str] = {}
    for section, name, value in re.findall(r"^(\S+)\.([\w-]+)='(.*)'$", listed, re.MULTILINE):
        if section in (":env:", "global", "install"):
            settings.setdefault(name, value)
    reachable = {"index-url", "extra-index-url", "trusted-host", "proxy", "default-timeout", "timeout", "cert"}
    return {name: value for name, value in settings.items() if name in reachable and "file:" not in value}
