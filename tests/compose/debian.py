"""Packages of Debian, also of other releases than this machine's: fetched and unpacked, never installed."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

from tests.support.requirements import require

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
LEFT_OUT = ("./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./usr/bin/promtool", "./usr/bin/amtool")
DOWNLOAD_SECONDS = 600


class Release:
    """A release of Debian, from the mirror that apt knows on this machine."""

    def __init__(self, name: str, folder: Path) -> None:
        """Fetch the list of its packages."""
        self._folder = folder
        for each in ("state/lists/partial", "cache/archives/partial"):
            (folder / each).mkdir(parents=True)
        (folder / "nothing").touch()
        (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {_mirror()} {name} main\n")
        self._apt("update")

    def package(self, name: str) -> Path:
        """Download one package, without what it needs."""
        self._apt("download", name)
        [path] = self._folder.glob(f"{name}_*.deb")
        return path

    def root(self, name: str, *packages: str) -> Path:
        """Return a folder with the files of packages and of all that they need, which nobody has configured.

        apt looks at the state of a machine that has none of them. An installation, as debootstrap makes it, would take
        five times as long.
        """
        archives, root = self._folder / f"{name}-archives", self._folder / name
        (archives / "partial").mkdir(parents=True)
        self._apt("install", "--yes", "--download-only", f"--option=Dir::Cache::archives={archives}/", *packages)
        unpack(archives.glob("*.deb"), root)
        for each in ("passwd", "group"):
            (root / "etc" / each).write_bytes((root / f"usr/share/base-passwd/{each}.master").read_bytes())
        return root

    def _apt(self, *arguments: str) -> None:
        options = {
            "Dir::Etc::sourcelist": self._folder / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::State": self._folder / "state",
            "Dir::State::status": self._folder / "nothing",
            "Dir::Cache": self._folder / "cache",
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "root",
        }
        command = ["apt-get", "-q", *(f"--option={name}={value}" for name, value in options.items()), *arguments]
        run = subprocess.run(
            command, cwd=self._folder, capture_output=True, text=True, check=False, timeout=DOWNLOAD_SECONDS
        )
        assert run.returncode == 0, run.stdout + run.stderr


def unpack(packages: Iterable[Path], root: Path) -> None:
    """Unpack packages into a folder whose /bin, /sbin and /lib lead to /usr, as on any Debian."""
    for each in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / each).mkdir(parents=True)
        (root / each).symlink_to(f"usr/{each}")
    for package in packages:
        files = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
        without = [f"--exclude={each}" for each in LEFT_OUT]
        subprocess.run(
            ["tar", "--extract", "--keep-directory-symlink", *without], cwd=root, stdin=files.stdout, check=True
        )
        assert files.stdout is not None
        files.stdout.close()
        assert files.wait() == 0, package


def _mirror() -> str:
    """Return the address from which apt gets Debian."""
    command = ["apt-get", "indextargets", "--format=$(REPO_URI)", "Created-By: Packages", "Label: Debian"]
    addresses = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    require(bool(addresses), "apt knows no mirror of Debian: apt-get update")
    return addresses[0]
