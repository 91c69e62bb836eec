"""The model store: a directory `<name>/<version>/` of manifests and artifacts, and `<name>/aliases.json`."""

import errno
import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from shared.errors import ManifestInvalid, ModelError, ModelNotFound
from shared.manifest import IDENTIFIER_PATTERN, Manifest

ALIASES_FILE = "aliases.json"
LATEST = "latest"


class ModelStore:
    """Finds versions, and adds them so that a half-written one is never seen."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, name: str, version: str) -> Path:
        """The folder of a version; it may not exist.

        Raises:
            ModelNotFound: if name or version could not be one; a `..` would lead out of the store.
        """
        return self._model_folder(name) / _identifier(version)

    def aliases(self, name: str) -> dict[str, str]:
        """Alias -> version of a model.

        Raises:
            ModelNotFound: if the model has no versions yet.
            ManifestInvalid: if the alias file is damaged or can't be read.
        """
        path = self._model_folder(name) / ALIASES_FILE
        try:
            aliases = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise ModelNotFound(f"no model {name!r} in {self.root}") from None
        except OSError as error:
            raise ManifestInvalid(f"{path}: {error.strerror}") from None
        except ValueError:
            raise ManifestInvalid(f"{path}: not JSON") from None
        if not isinstance(aliases, dict):
            raise ManifestInvalid(f"{path}: not a JSON object")
        return {str(alias): str(version) for alias, version in aliases.items()}

    def manifest(self, name: str, version: str = LATEST) -> Manifest:
        """The manifest of a version or of the version that an alias names.

        Raises:
            ModelNotFound: if there is no such model, version or alias.
            ManifestInvalid: if the manifest can't be read or speaks of another model.
        """
        version = self.aliases(name).get(version, version)
        folder = self.folder(name, version)
        if not folder.is_dir():
            raise ModelNotFound(f"model {name!r} has no version {version!r} in {self.root}")
        manifest = Manifest.read(folder)
        if (manifest.name, manifest.version) != (name, version):
            raise ManifestInvalid(f"{folder}: the manifest is of {manifest.name} {manifest.version}")
        return manifest

    def add(self, name: str, version: str, write: Callable[[Path], None]) -> Path:
        """Add a version: `write` fills a hidden folder, which then appears under its name in one step.

        Raises:
            FileExistsError: if the version is there already; versions never change.
            ModelError: if name or version can't be used as such.
            OSError: if the store can't be written.
        """
        target = self.folder(name, version)
        if version in (LATEST, ALIASES_FILE):
            raise ModelError(f"{version!r} can't be a version: the store uses it otherwise")
        taken = f"version {version!r} of {name!r} exists already"
        if target.exists():
            raise FileExistsError(taken)
        parent = target.parent
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".adding-", dir=parent) as scratch:
            draft = Path(scratch) / version
            draft.mkdir()
            write(draft)
            for path in [*draft.iterdir(), draft]:
                _sync(path)
            try:
                draft.rename(target)
            except OSError as error:
                if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                    raise FileExistsError(taken) from None  # another process added it meanwhile
                raise
        _sync(parent)
        return target

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias to a version, in one step.

        Raises:
            ModelNotFound: if there is no such version.
            ManifestInvalid: if the alias file is damaged.
        """
        if not self.folder(name, version).is_dir():
            raise ModelNotFound(f"model {name!r} has no version {version!r} in {self.root}")
        path = self._model_folder(name) / ALIASES_FILE
        aliases = self.aliases(name) if path.exists() else {}
        aliases[alias] = version
        draft = path.with_name(f".{ALIASES_FILE}.{os.getpid()}")
        draft.write_text(json.dumps(aliases, indent=2, sort_keys=True) + "\n")
        _sync(draft)
        draft.replace(path)

    def _model_folder(self, name: str) -> Path:
        return self.root / _identifier(name)


def _identifier(text: str) -> str:
    if re.fullmatch(IDENTIFIER_PATTERN, text) is None:
        raise ModelNotFound(f"{text!r} is no model name or version: 1 to 64 letters, digits, '.', '_' or '-'")
    return text


def _sync(path: Path) -> None:
    """Bring a file or a folder's entries to the disk, so that a power cut leaves no part of a version."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
