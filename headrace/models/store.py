"""The model store: `<name>/<version>/` with a manifest and an artifact each, and `<name>/aliases/<alias>.json`."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from headrace.errors import FileUnusable, ManifestInvalid, ModelError, ModelNotFound, NameInvalid, VersionExists
from headrace.models.alias import ALIAS_BYTES_MAX, LATEST, Alias, Trial
from headrace.models.artifact_cache import ArtifactCache, copy_verified
from headrace.models.identifiers import check_new_name, identifier, is_identifier, version_folder
from headrace.models.manifest import MANIFEST_FILE, SIGNATURE_FILE, Manifest
from headrace.models.storage import Interrupts, open_storage, read_document

ALIASES, DEFAULT_STORE = "aliases", "models"


class ModelStore:
    """The versions of models in a directory or behind a URL, and the aliases that name them.

    A version exists as soon as its manifest does, so that a half-written one is never visible, and it never changes.
    Every call reads the store anew and may use the network: in an event loop, call it from a thread. If the store can't
    be reached, read or written, every method raises StoreUnavailable (a ModelError), and FileUnusable if only the file
    that it needs can't be read.
    """

    def __init__(self, root: str | Path, cache: ArtifactCache | None = None, reraise: Interrupts = ()) -> None:
        """Open a directory or URL without accessing it.

        Args:
            root: the directory or URL.
            cache: a cache for artifacts of a remote store.
            reraise: exceptions that interrupt a call from outside; they are passed on unchanged.

        Raises:
            ModelError: if the URL can't be that of a store.
        """
        self._storage = open_storage(root, reraise)
        self._cache = cache if self._storage.remote else None

    @property
    def root(self) -> str:
        """Directory or URL of the store."""
        return self._storage.root

    def exists(self) -> bool:
        """Tell whether the directory is there; behind a URL, where directories exist in names only, always true."""
        return self._storage.exists()

    @property
    def look_seconds(self) -> float:
        """Interval, in seconds, for reading the aliases: over a network each reading costs several requests."""
        return 5.0 if self._storage.remote else 1.0

    def location(self, name: str, version: str) -> str:
        """Return the path or URL of a version, which need not exist.

        Raises:
            ModelNotFound: if name or version are not valid; a `..` would lead out of the store.
        """
        return self._storage.location(version_folder(name, version))

    def names(self) -> list[str]:
        """Return the names of the models that have a version, sorted."""
        return sorted({name for name, _ in self._existing("")})

    def versions(self, name: str) -> list[str]:
        """Return the versions of a model, the oldest first; none if there is no such model.

        All their manifests are read. Versions with a damaged manifest come first.

        Raises:
            ModelNotFound: if the name is not valid.
        """
        return sorted(self._version_names(name), key=lambda version: (self._created_at(name, version), version))

    def aliases(self, name: str) -> dict[str, str]:
        """Return the version that each alias names; none if there is no such model. Errors as in `alias_records`."""
        return {alias: record.version for alias, record in self.alias_records(name).items()}

    def alias_records(self, name: str, on_damage: Callable[[str, ModelError], None] | None = None) -> dict[str, Alias]:
        """Return the aliases by name, with their trials; none if there is no such model.

        Raises:
            ModelNotFound: if the name is not valid.
            ManifestInvalid, FileUnusable: if an alias is damaged, unless `on_damage` takes it and its error.
        """
        paths = self._storage.find(f"{identifier(name)}/{ALIASES}")
        names = [path.rpartition("/")[2].removesuffix(".json") for path in paths if path.endswith(".json")]
        found: dict[str, Alias] = {}
        for alias in filter(is_identifier, sorted(names)):
            try:
                # An alias may have been removed since `find`.
                found.update({alias: record} if (record := self._alias(name, alias)) else {})
            except (ManifestInvalid, FileUnusable) as error:
                if on_damage is None:
                    raise
                on_damage(alias, error)
        return found

    def resolve(self, name: str, ref: str = LATEST) -> str:
        """Return the version that an alias names, or the version itself.

        Raises:
            ModelNotFound: if there is no such model, version or alias.
            ManifestInvalid: if the alias is damaged.
        """
        version = self._named(name, ref)
        if not self._exists(name, version):
            raise self._not_found(name, version)
        return version

    def manifest(self, name: str, ref: str = LATEST, explain: bool = True) -> Manifest:
        """Return the manifest of a version or of the version that an alias names.

        Without `explain`, no versions are listed to tell in ModelNotFound an unknown model from an unknown version.

        Raises:
            ModelNotFound: if there is no such model, version or alias.
            ManifestInvalid: if the alias or the manifest is damaged or belongs to another model.
        """
        version = self._named(name, ref)
        where = self._storage.location(path := f"{version_folder(name, version)}/{MANIFEST_FILE}")
        if (content := read_document(self._storage, path)) is None:
            raise self._not_found(name, version, explain)
        manifest = Manifest.parse(content, where)
        manifest.check_identity(name, version, where)
        return manifest

    def artifact(self, manifest: Manifest) -> bytes:
        """Return the artifact of a version; errors as in `copy_artifact`."""
        copy = BytesIO()
        self.copy_artifact(manifest, copy)
        return copy.getvalue()

    def copy_artifact(self, manifest: Manifest, target: BinaryIO) -> None:
        """Copy the artifact of a version into a file, and compare the digest of the copy with that of the manifest.

        Use the copy alone: the file in the store may change at any time.

        Raises:
            ArtifactInvalid: if there is no such file, or it has another digest.
        """
        path = f"{version_folder(manifest.name, manifest.version)}/{manifest.artifact.file}"
        copy_verified(self._storage, path, manifest.artifact, target, self._cache)

    def file(self, manifest: Manifest, file: str) -> bytes | None:
        """Return the content of a small file of a version, unverified; None if there is no such file."""
        return read_document(self._storage, f"{version_folder(manifest.name, manifest.version)}/{file}")

    def sign(self, manifest: Manifest, signature: bytes) -> None:
        """Write a signature of a version's manifest beside the manifest; it replaces an earlier one."""
        self._storage.replace(f"{version_folder(manifest.name, manifest.version)}/{SIGNATURE_FILE}", signature)

    def check_new(self, name: str, version: str, alias: str | None = None) -> None:
        """Check that a version can be added, and that an alias can name it then; errors as in `add` and `set_alias`."""
        check_new_name(name, "the name of a model")
        check_new_name(version, "a version")
        if version in (LATEST, ALIASES) or self._alias(name, version):
            raise NameInvalid(f"{version!r} can't be a version: the store uses it otherwise")
        if self._exists(name, version):
            raise VersionExists(f"version {version!r} of {name!r} exists already")
        if alias is not None:
            self._check_alias(name, alias, version)

    def add(self, name: str, version: str, write: Callable[[Path], None]) -> None:
        """Add a version: `write` fills a folder with manifest and artifact, which then becomes visible as a whole.

        Raises:
            VersionExists: if the version exists already; versions never change.
            ManifestInvalid: if `write` left no manifest or one of another version, FileUnusable if it is too large.
            NameInvalid: if the name or the version can't be used. Exceptions of `write` are passed on.
        """
        self.check_new(name, version)

        def write_checked(draft: Path) -> None:
            write(draft)
            where = f"new version {version!r} of {name!r}"
            if (content := read_document(open_storage(draft), MANIFEST_FILE)) is None:
                raise ManifestInvalid(f"{where}: there is no {MANIFEST_FILE}")
            Manifest.parse(content, where).check_identity(name, version, where)

        try:
            self._storage.add_folder(version_folder(name, version), write_checked, last=MANIFEST_FILE)
        except FileExistsError:
            self.check_new(name, version)
            half = f"version {version!r} of {name!r} is being added by another process, or was left half-written"
            raise VersionExists(half) from None

    def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias to a version, in one step: readers see the old version or the new one.

        If two processes move an alias at once, the last one wins.

        Raises:
            ModelNotFound: if there is no such version.
            NameInvalid: if the name of the alias can't be used.
            ManifestInvalid: if the alias exists and is damaged.
        """
        if not self._exists(name, version):
            raise self._not_found(name, version)
        self._check_alias(name, alias, version)
        record = self._alias(name, alias)
        if record is None or record.version != version:
            self._write_alias(name, alias, record.moved(version) if record else Alias.new(version, []))

    def set_trials(self, name: str, alias: str, *, split: Trial | None, shadow: Trial | None) -> None:
        """Give shares of an alias' traffic to second versions, or none of it; a move of the alias ends trials too.

        Raises:
            ModelNotFound: if there is no such alias or version.
            ManifestInvalid: if the alias is damaged.
        """
        record = self._known_alias(name, alias)
        for trial in (split, shadow):
            if trial is not None and not self._exists(name, trial.version):
                raise self._not_found(name, trial.version)
        self._write_alias(name, alias, record.model_copy(update={"split": split, "shadow": shadow}))

    def rollback(self, name: str, alias: str) -> str:
        """Point an alias to the newest version that it named before and that still exists, and return that version.

        Raises:
            ModelNotFound: if there is no such alias.
            ModelError: if no version that it named before still exists.
            ManifestInvalid: if the alias is damaged.
        """
        record = self._known_alias(name, alias)
        if (earlier := record.rolled_back(set(self._version_names(name)))) is None:
            raise ModelError(f"{alias!r} of {name!r} named no version before {record.version!r} that still exists")
        self._write_alias(name, alias, earlier)
        return earlier.version

    def remove(self, name: str, version: str) -> None:
        """Remove a version that no alias names, or the remains of a half-written one.

        Raises:
            ModelNotFound: if there is no such version.
            ModelError: if an alias names it.
            ManifestInvalid: if an alias is damaged.
        """
        naming = [alias for alias, record in self.alias_records(name).items() if version in record.versions]
        if naming:
            raise ModelError(f"version {version!r} of {name!r} is in use as {', '.join(naming)}")
        if record := self._alias(name, version):
            raise ModelError(f"{version!r} is an alias of {name!r}, of version {record.version!r}: name the version")
        try:
            self._storage.remove_folder(version_folder(name, version), first=MANIFEST_FILE)
        except FileNotFoundError:
            raise self._not_found(name, version) from None

    def _existing(self, folder: str) -> list[tuple[str, str]]:
        """Return (name, version) of every version below a folder."""
        parts = [tuple(path.split("/")) for path in self._storage.find(folder)]
        return [
            (part[0], part[1])
            for part in parts
            if len(part) == 3 and part[2] == MANIFEST_FILE and part[1] != ALIASES and all(map(is_identifier, part[:2]))
        ]

    def _version_names(self, name: str) -> list[str]:
        return [version for _, version in self._existing(identifier(name))]

    def _exists(self, name: str, version: str) -> bool:
        return read_document(self._storage, f"{version_folder(name, version)}/{MANIFEST_FILE}") is not None

    def _check_alias(self, name: str, alias: str, version: str) -> None:
        check_new_name(alias, "an alias")
        if alias == version or self._exists(name, alias):
            raise NameInvalid(f"{alias!r} can't be an alias of {name!r}: it is the name of a version")

    def _named(self, name: str, ref: str) -> str:
        # A version comes before an alias of its name, which no command makes: one might sign another version.
        return record.version if (record := self._alias(name, ref)) and not self._exists(name, ref) else ref

    def _not_found(self, name: str, ref: str, explain: bool = True) -> ModelNotFound:
        if explain and not self.exists():
            return ModelNotFound(f"no model {name!r}: there is no model store {self.root}")
        if explain and not self._version_names(name):
            return ModelNotFound(f"no model {name!r} in {self.root}")
        return ModelNotFound(f"model {name!r} has no version or alias {ref!r} in {self.root}")

    def _created_at(self, name: str, version: str) -> str:
        try:
            return self.manifest(name, version).created_at
        except (ManifestInvalid, FileUnusable, ModelNotFound):
            return ""

    def _alias(self, name: str, alias: str) -> Alias | None:
        path = f"{identifier(name)}/{ALIASES}/{identifier(alias)}.json"
        content = read_document(self._storage, path, ALIAS_BYTES_MAX)
        return None if content is None else Alias.parse(content, self._storage.location(path))

    def _known_alias(self, name: str, alias: str) -> Alias:
        if (record := self._alias(name, alias)) is None:
            raise ModelNotFound(f"model {name!r} has no alias {alias!r} in {self.root}")
        return record

    def _write_alias(self, name: str, alias: str, record: Alias) -> None:
        self._storage.replace(f"{name}/{ALIASES}/{alias}.json", record.content())
