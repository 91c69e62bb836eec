"""Signs versions, for workers that load only what is signed."""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from headrace.errors import ModelError
from headrace.models.manifest import MANIFEST_FILE, Manifest
from headrace.models.store import ModelStore


def sign(store: ModelStore, name: str, ref: str, key_file: Path) -> Manifest:
    """Sign the manifest of a version, which holds the digest of its artifact, after that digest was checked.

    `key_file` is PEM, an Ed25519 private key without a password.

    Raises:
        ModelError: if the key can't be used, or the version is missing, damaged or can't be written.
    """
    key = _read(key_file)
    manifest = store.manifest(name, ref)
    content = store.file(manifest, MANIFEST_FILE)
    if content is None or Manifest.parse(content, f"{name} {manifest.version}") != manifest:
        raise ModelError(f"{name} {manifest.version} was changed while it was read")
    # Else a signature would vouch for an artifact that is not there.
    store.artifact(manifest)
    store.sign(manifest, key.sign(content))
    return manifest


def _read(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None
    except TypeError:
        raise ModelError(f"{path}: the key has a password; it must be one without") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ModelError(f"{path}: it is no private key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ModelError(f"{path}: it is no Ed25519 key")
    return key
