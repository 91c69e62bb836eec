"""Golden rows: training rows with their predictions at export, in a file that workers read and gateways do not."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from headrace.errors import ArtifactInvalid
from headrace.models.artifact_cache import check_digest
from headrace.models.fields import PARTS_MAX, Items, has_too_many_parts
from headrace.models.manifest import SAMPLES_MAX, GoldenRows, Manifest, Sample
from headrace.models.store import ModelStore

GOLDEN_FILE = "golden.json"

_SAMPLES = TypeAdapter(Annotated[Items[Sample], Field(max_length=SAMPLES_MAX)])


def write_golden_rows(folder: Path, rows: Sequence[Sample]) -> GoldenRows:
    """Write the first rows that a worker reads into the folder of a version, and return the file's entry."""
    written = list(rows)
    while has_too_many_parts(content := _SAMPLES.dump_json(written)):
        written.pop()
    (folder / GOLDEN_FILE).write_bytes(content)
    return GoldenRows(file=GOLDEN_FILE, sha256=hashlib.sha256(content).hexdigest())


def golden_rows(store: ModelStore, manifest: Manifest) -> list[Sample]:
    """Return the golden rows of a version; none if its manifest names no file of them.

    Raises:
        ArtifactInvalid: if the file is missing, has another digest than the manifest says, has more than PARTS_MAX
            parts or SAMPLES_MAX rows, or holds no such rows. The message shows nothing of its content.
    """
    if manifest.golden is None:
        return []
    where = f"{store.location(manifest.name, manifest.version)}/{manifest.golden.file}"
    if (content := store.file(manifest, manifest.golden.file)) is None:
        raise ArtifactInvalid(f"{where}: there is no such file")
    check_digest(hashlib.sha256(content).hexdigest(), manifest.golden.sha256, where)
    if has_too_many_parts(content):
        raise ArtifactInvalid(f"{where}: it has more than {PARTS_MAX:,} values")
    try:
        return _SAMPLES.validate_json(content)
    except ValidationError:
        raise ArtifactInvalid(f"{where}: it does not hold rows with predictions") from None
