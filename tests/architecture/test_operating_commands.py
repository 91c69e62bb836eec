"""The commands for operators in the documents, run by a shell with stand-ins for Docker."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import PATIENCE_SECONDS, REPOSITORY

RUNBOOK = (REPOSITORY / "docs" / "runbook.md").read_text("utf-8")
SECURITY = (REPOSITORY / "SECURITY.md").read_text("utf-8")
COMPOSE = (REPOSITORY / "docs" / "compose.md").read_text("utf-8")


def function(name: str, document: str = RUNBOOK) -> str:
    """Return the first definition of a shell function."""
    definitions: list[str] = re.findall(rf"^{name}\(\) {{.*?; }}$", document, re.DOTALL | re.MULTILINE)
    return definitions[0]


def sh(script: str, folder: Path, **environment: str) -> str:
    """Return the output of a script, which finds the stand-ins in the folder first."""
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["sh", "-ec", script],
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


def stand_in(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}")
    path.chmod(0o755)


def blocks(document: str, chapter: str) -> list[str]:
    [text] = [part for part in re.split(r"^## ", document, flags=re.MULTILINE) if part.startswith(f"{chapter}\n")]
    return re.findall(r"```sh\n(.*?)```", text, re.DOTALL)


def test_workers_are_restarted_one_after_the_other(tmp_path: Path) -> None:
    # Each is healthy when it is asked for the second time.
    script = """case "$1" in
        compose) printf 'first\\nsecond\\n' ;;
        restart) echo "restart $2" >> log ;;
        inspect) echo "inspect $4" >> log
            if [ -e "asked-$4" ]; then echo healthy; else touch "asked-$4"; echo starting; fi ;;
    esac"""
    stand_in(tmp_path, "docker", script)
    stand_in(tmp_path, "sleep", "")

    sh(f"{function('roll')}\nroll worker", tmp_path)

    assert (tmp_path / "log").read_text().splitlines() == [
        f"{verb} {each}" for each in ("first", "second") for verb in ("restart", "inspect", "inspect")
    ]
    assert function("roll", COMPOSE) == function("roll"), "both documents have the function"


@pytest.mark.parametrize("tls", [False, True])
def test_redis_is_asked_as_it_is_set_up(tmp_path: Path, tls: bool) -> None:
    # The stand-in runs the words after `docker compose exec -T redis`.
    stand_in(tmp_path, "docker", 'shift 4; exec "$@"')
    stand_in(tmp_path, "redis-cli", 'for each in "$@"; do printf "%s|" "$each"; done')
    authority = tmp_path / "ca.pem"
    if tls:
        authority.touch()
    definition = function("redis")
    assert definition.count("/tls/ca.pem") == 2

    output = sh(f"{definition.replace('/tls/ca.pem', str(authority))}\nredis hget 'a key' '$x'", tmp_path)

    options = f"--tls|--cacert|{authority}|" if tls else ""
    assert output == f"--user|operator|{options}hget|a key|$x|"


def test_no_password_is_taken_from_the_shell() -> None:
    """The shell does not read `.env`, Compose does."""
    assert "_PASSWORD" not in "\n".join(re.findall(r"```sh\n(.*?)```", RUNBOOK, re.DOTALL))


@pytest.mark.skipif(not (shutil.which("openssl") and shutil.which("git")), reason="needs openssl and git")
def test_keys_of_the_guide_are_not_left_in_the_clone(tmp_path: Path) -> None:
    clone, home = tmp_path / "clone", tmp_path / "home"
    clone.mkdir()
    home.mkdir()
    shutil.copy(REPOSITORY / ".gitignore", clone)
    for name in ("sudo", "docker"):
        stand_in(tmp_path, name, "")
    [certificates] = [block for block in blocks(SECURITY, "Redis") if "openssl" in block]
    [signatures] = [block for block in blocks(SECURITY, "Models") if "openssl" in block]
    keys = "\n".join(line for line in signatures.splitlines() if line.startswith("openssl"))

    sh(f"umask 077\ncd clone\ngit init --quiet .\n{certificates}\n{keys}", tmp_path, HOME=str(home))

    assert {path.name for path in home.rglob("*.key")} == {"ca.key", "model.key"}
    assert [path.relative_to(clone) for path in clone.rglob("*.key")] == [Path("tls/redis.key")]
    assert sh("cd clone\ngit status --porcelain --untracked-files=all", tmp_path).splitlines() == ["?? .gitignore"]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (clone / "tls").iterdir()}
    assert (modes["ca.pem"], modes["redis.pem"], modes["redis.key"]) == (0o644, 0o644, 0o600)
    assert stat.S_IMODE((clone / "tls").stat().st_mode) == 0o755
    assert sh("openssl verify -CAfile ca.pem redis.pem", clone / "tls") == "redis.pem: OK\n"


def test_the_gateway_in_its_container_can_read_api_keys_that_the_guide_makes(tmp_path: Path) -> None:
    first = blocks(SECURITY, "API keys")[0].splitlines()[0]

    sh(f"umask 077\n{first}\necho line >> keys/api-keys", tmp_path)

    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "keys" / "api-keys").stat().st_mode) == 0o644
