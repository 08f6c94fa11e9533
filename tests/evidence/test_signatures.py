"""The verification of signatures in check.py, compared with a library."""

from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from tallybook.application.checkpoints.weak_keys import is_weak_public_key

from ..sampling import examples

ORDER = 2**252 + 27742317777372353535851937790883648493
RFC_8032_VECTORS = [  # 7.1
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
        ("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555"
         "fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"),
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
        ("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da0"
         "85ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("key", "message", "signature"), RFC_8032_VECTORS)
def test_the_vectors_of_the_standard_are_valid(program: Any, key: str, message: str, signature: str) -> None:
    """And no longer valid for another message."""
    arguments = bytes.fromhex(key), bytes.fromhex(signature)
    assert program.is_signature(*arguments, bytes.fromhex(message))
    assert not program.is_signature(*arguments, bytes.fromhex(message) + b"\0")


@settings(max_examples=examples(20))
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=100), st.integers(0, 95), st.integers(1, 255))
def test_signatures_are_valid_as_in_the_library(
    program: Any, seed: bytes, message: bytes, offset: int, change: int
) -> None:
    """A changed byte of the key or of the signature makes it invalid."""
    private_key = Ed25519PrivateKey.from_private_bytes(seed)
    key, signature = private_key.public_key().public_bytes_raw(), private_key.sign(message)
    assert program.is_signature(key, signature, message)
    changed = bytearray(key + signature)
    changed[offset] ^= change
    assert not program.is_signature(bytes(changed[:32]), bytes(changed[32:]), message)


def test_a_second_form_of_a_signature_is_not_valid(program: Any) -> None:
    """The scalar must be below the order of the group, so that nobody makes another signature of a signed text."""
    private_key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    key, signature = private_key.public_key(), private_key.sign(b"text")
    second = signature[:32] + (int.from_bytes(signature[32:], "little") + ORDER).to_bytes(32, "little")
    assert not program.is_signature(key.public_bytes_raw(), second, b"text")
    with pytest.raises(InvalidSignature):
        key.verify(second, b"text")


def test_a_key_for_which_anyone_can_sign_has_no_signatures(program: Any) -> None:
    """A library accepts a signature of zeros by a point of small order, for some texts."""
    key, signature = (1).to_bytes(32, "little"), (1).to_bytes(32, "little") + bytes(32)
    assert is_weak_public_key(key)
    Ed25519PublicKey.from_public_bytes(key).verify(signature, b"any text")
    assert not program.is_signature(key, signature, b"any text")
