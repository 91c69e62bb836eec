"""Signatures of model versions: signing them, and checking them before a version is loaded.

Import this module only where signatures are asked for: it loads OpenSSL.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from headrace.errors import ArtifactInvalid, ManifestInvalid, ModelError
from headrace.models.manifest import MANIFEST_FILE, SIGNATURE_FILE, Manifest
from headrace.models.store import ModelStore

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)


def sign(store: ModelStore, name: str, ref: str, key_file: Path) -> Manifest:
    """Sign the manifest of a version after checking the artifact against the digest in it.

    Args:
        store: The model store that holds the version, and gets the signature.
        name: The name of the model.
        ref: A version, or an alias of one.
        key_file: An Ed25519 private key without a password, as PEM.

    Returns:
        The manifest that was signed.

    Raises:
        ModelError: if the key can't be used, or the version is missing, damaged or can't be written.
    """
    key = read_private_key(key_file)
    manifest = store.manifest(name, ref)
    content = store.file(manifest, MANIFEST_FILE)
    if content is None or (signed := _reread(content, manifest)) is None:
        raise ModelError(f"{name} {manifest.version} was changed while it was read")
    manifest = signed
    # Without this check a signature would vouch for an artifact that is not there.
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        store.copy_artifact(manifest, nowhere)
    store.sign(manifest, key.sign(content))
    return manifest


class PublicKeys:
    """Ed25519 public keys, one of which must have signed a version; several while one key replaces another."""

    def __init__(self, keys: Sequence[Ed25519PublicKey], source: str = "MODEL_PUBLIC_KEY") -> None:
        """Take keys; `source` names their setting in errors."""
        self._keys = keys
        self._source = source

    @classmethod
    def read(cls, path: Path) -> "PublicKeys":
        """Read all keys of a PEM file.

        Raises:
            ModelError: if the file can't be read, holds no key, or holds anything but Ed25519 public keys.
        """
        try:
            content = path.read_bytes()
            keys = [load_pem_public_key(block[0]) for block in _PEM.finditer(content)]
        except OSError as error:
            raise ModelError(f"MODEL_PUBLIC_KEY: {path}: {error.strerror}") from None
        except (ValueError, UnsupportedAlgorithm):
            raise ModelError(f"MODEL_PUBLIC_KEY: {path}: a part of it is not a public key") from None
        ed25519 = [key for key in keys if isinstance(key, Ed25519PublicKey)]
        if not ed25519 or len(ed25519) < len(keys):
            raise ModelError(f"MODEL_PUBLIC_KEY: {path}: it must hold Ed25519 public keys, as PEM, and nothing else")
        return cls(ed25519)

    def check(self, store: ModelStore, manifest: Manifest) -> Manifest:
        """Check that one of the keys has signed a manifest, and with it the digest of its artifact.

        Nothing of the artifact is read.

        Returns:
            The manifest that was signed; use it alone. The other one may differ where Python sees no difference: a
            class `true` is equal to a class 1.

        Raises:
            ArtifactInvalid: if none of the keys has signed the manifest.
            StoreUnavailable: if the store does not answer.
        """
        where = f"{store.location(manifest.name, manifest.version)}/{MANIFEST_FILE}"
        content, signature = store.file(manifest, MANIFEST_FILE), store.file(manifest, SIGNATURE_FILE)
        if content is None or signature is None:
            raise ArtifactInvalid(f"{where}: it is not signed, and {self._source} asks for that")
        if not any(_has_signed(key, content, signature) for key in self._keys):
            raise ArtifactInvalid(f"{where}: none of the keys in {self._source} has signed it as it is")
        # The signature is of the bytes that were read here, and not of those that the caller has read before.
        if (signed := _reread(content, manifest)) is None:
            raise ArtifactInvalid(f"{where}: it was changed while it was read")
        return signed


def _reread(content: bytes, manifest: Manifest) -> Manifest | None:
    """Return the manifest that `content` holds; None if it is not equal to one that was read before."""
    try:
        found = Manifest.parse(content, MANIFEST_FILE)
    except ManifestInvalid:
        return None
    return found if found == manifest else None


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read an Ed25519 private key without a password, as PEM.

    Raises:
        ModelError: if the file is none.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None
    except TypeError:
        raise ModelError(f"{path}: the key has a password; it must be one without") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ModelError(f"{path}: this is not a private key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ModelError(f"{path}: this is not an Ed25519 key")
    return key


def _has_signed(key: Ed25519PublicKey, content: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True
