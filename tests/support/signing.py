"""Keys with which tests sign models."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


def signing_key(path: Path) -> tuple[Path, Ed25519PublicKey]:
    """Write a new private key into a file and return its public key."""
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path, key.public_key()


def public_file(path: Path, *keys: Ed25519PublicKey) -> Path:
    """Write a file of public keys, as `MODEL_PUBLIC_KEY` names it."""
    pem = [key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for key in keys]
    path.write_bytes(b"".join(pem))
    return path
