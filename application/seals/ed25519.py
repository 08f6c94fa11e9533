"""Ed25519, by the `cryptography` package: the one module that needs the extra `seal`."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

__all__ = ["Ed25519PrivateKey", "from_pem", "is_signed", "to_pem"]


def is_signed(public: bytes, signature: bytes, data: bytes) -> bool:
    """Whether the owner of the key signed the data so."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def from_pem(pem: bytes) -> Ed25519PrivateKey:
    """The private key in a PEM document. Raises ValueError or TypeError."""
    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError("not an Ed25519 key")
    return key


def to_pem(key: Ed25519PrivateKey) -> bytes:
    """The private key as a PEM document, as OpenSSL writes it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
