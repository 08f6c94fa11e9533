"""Ed25519 with the `cryptography` package: the only module that needs the extra `checkpoints`."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

__all__ = ["Ed25519PrivateKey", "from_pem", "is_valid_signature", "to_pem"]


def is_valid_signature(public_key: bytes, signature: bytes, data: bytes) -> bool:
    """Return whether the signature of the data is valid for the public key."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def from_pem(pem: bytes) -> Ed25519PrivateKey:
    """Return the private key in a PEM document. Raises ValueError or TypeError."""
    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError("not an Ed25519 key")
    return key


def to_pem(key: Ed25519PrivateKey) -> bytes:
    """Return the private key as a PEM document, in the format of OpenSSL."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
