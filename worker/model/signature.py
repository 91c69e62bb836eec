"""Whose models a worker loads: a version must be signed by one of the keys that it was given."""

import re
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from headrace.errors import ArtifactInvalid, ManifestInvalid, ModelError
from headrace.models.manifest import MANIFEST_FILE, SIGNATURE_FILE, Manifest
from headrace.models.store import ModelStore

PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)


class PublicKeys:
    """Several while one follows another."""

    def __init__(self, keys: Sequence[Ed25519PublicKey]) -> None:
        self._keys = keys

    @classmethod
    def read(cls, path: Path) -> "PublicKeys":
        """From a PEM file.

        Raises:
            ModelError: if it can't be read, holds no key, or something else than Ed25519 public keys.
        """
        try:
            content = path.read_bytes()
            keys = [load_pem_public_key(found[0]) for found in PEM.finditer(content)]
        except OSError as error:
            raise ModelError(f"MODEL_PUBLIC_KEY: {path}: {error.strerror}") from None
        except (ValueError, UnsupportedAlgorithm):
            raise ModelError(f"MODEL_PUBLIC_KEY: {path}: something in it is no public key") from None
        chosen = [key for key in keys if isinstance(key, Ed25519PublicKey)]
        if not chosen or len(chosen) < len(keys):
            raise ModelError(f"MODEL_PUBLIC_KEY: {path}: it must hold Ed25519 public keys, as PEM, and nothing else")
        return cls(chosen)

    def check(self, store: ModelStore, manifest: Manifest) -> None:
        """See that one of the keys has signed this manifest, and with it the digest of its artifact.

        Raises:
            ArtifactInvalid: if none has. Nothing of the artifact was read.
            StoreUnavailable: if the store does not answer.
        """
        where = f"{store.location(manifest.name, manifest.version)}/{MANIFEST_FILE}"
        # The bytes that were signed; what they say must be what was read before.
        content, signature = store.file(manifest, MANIFEST_FILE), store.file(manifest, SIGNATURE_FILE)
        if content is None or signature is None:
            raise ArtifactInvalid(f"{where}: it is not signed, and MODEL_PUBLIC_KEY asks for that")
        if not any(_has_signed(key, content, signature) for key in self._keys):
            raise ArtifactInvalid(f"{where}: none of the keys in MODEL_PUBLIC_KEY has signed it as it is")
        try:
            unchanged = Manifest.parse(content, where) == manifest
        except ManifestInvalid:
            unchanged = False
        if not unchanged:
            raise ArtifactInvalid(f"{where}: it was changed while it was read")


def _has_signed(key: Ed25519PublicKey, content: bytes, signature: bytes) -> bool:
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True
