"""Images that stand in for those of a registry that can't be reached, under the names that Compose asks for."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.architecture.test_compose import SERVICES
from tests.architecture.test_dockerfiles import arguments_of
from tests.compose.debian import Release
from tests.compose.engine import Engine
from tests.support.processes import REPOSITORY
from tests.support.requirements import require

FOLDER = Path(__file__).parent / "stand_ins"
PULLED = {name: service["image"] for name, service in SERVICES.items() if not service["image"].endswith(":local")}
"""Service -> image of a registry."""

PULL_SECONDS = 900

BASE = ("base-files", "base-passwd", "busybox", "coreutils", "dash", "passwd", "tar")
ROOTS = {
    # celery-exporter accepts no newer Python than this one's.
    "python": ("bookworm", ("libstdc++6", "netbase", "python3", "python3-pip-whl", "tzdata")),
    # Older ones do not know all the rules of Redis' users.
    "servers": ("trixie", ("redis-server", "prometheus", "prometheus-alertmanager")),
}
"""Root -> release and packages; each holds `BASE` too."""


def provide_images(engine: Engine, folder: Path) -> None:
    """Pull the images of the services, or build stand-ins for all of them.

    Args:
        engine: gets the images.
        folder: of the clone, with the secrets of its builds.
    """
    pull = engine.docker("compose", "pull", "--quiet", *PULLED, folder=folder, check=False, seconds=PULL_SECONDS)
    if pull.returncode == 0:
        return
    require(engine.own, f"images can't be pulled, and stand-ins would stay in this engine: {pull.stderr}")
    build = folder.parent / "stand-ins"
    shutil.copytree(FOLDER, build)
    shutil.copy(REPOSITORY / "requirements/exporter.txt", build)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: _import_root(engine, build, name), ROOTS))
    (build / "compose.json").write_text(json.dumps(_plan(folder)))
    engine.docker("compose", "--file", "compose.json", "build", folder=build)


def _import_root(engine: Engine, folder: Path, name: str) -> None:
    """Make an image of the files of Debian's packages."""
    release, packages = ROOTS[name]
    root = Release(release, folder / release).root(name, *BASE, *packages)
    engine.shell(f"tar --create . | docker import - stand-in/{name}", folder=root)
    shutil.rmtree(folder / release)


def _plan(folder: Path) -> dict[str, object]:
    """Return what to build, for Compose."""
    [version] = arguments_of("Dockerfile.gateway", "ARG")
    [base] = arguments_of("Dockerfile.gateway", "FROM")
    name, _, value = version.partition("=")
    images = {**PULLED, "python": base.replace(f"${{{name}}}", value)}
    secrets = ["pip.conf", "ca.pem"]
    return {
        "name": "stand-ins",
        "services": {
            target: {"image": image, "build": {"context": ".", "target": target, "secrets": secrets}}
            for target, image in images.items()
        },
        "secrets": {each: {"file": str(folder / each)} for each in secrets},
    }
