"""Public keys for which anyone can sign are rejected by key parsing and by signature verification."""

from itertools import product
from pathlib import Path

import pytest
from tallybook.application import TallybookError
from tallybook.application.checkpoints import ed25519
from tallybook.application.checkpoints.checkpoint import Note, Signature
from tallybook.application.checkpoints.signing_keys import PrivateKey, PublicKey
from tallybook.application.checkpoints.weak_keys import is_weak_public_key

PRIME = 2**255 - 19
SMALL_ORDER_POINTS = {
    "order 1": "0100000000000000000000000000000000000000000000000000000000000000",
    "order 2": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "order 4, x even": "0000000000000000000000000000000000000000000000000000000000000000",
    "order 4, x odd": "0000000000000000000000000000000000000000000000000000000000000080",
    "order 8, y low, x even": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "order 8, y low, x odd": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "order 8, y high, x even": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "order 8, y high, x odd": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
}
"""The eight points of libsodium's list."""
OTHER_ENCODINGS = {
    "order 1, sign of zero": "0100000000000000000000000000000000000000000000000000000000000080",
    "order 2, sign of zero": "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    **{
        f"y = p + {offset}, sign {sign}": (PRIME + offset | sign << 255).to_bytes(32, "little").hex()
        for offset, sign in product(range(19), (0, 1))
    },
}
"""Encodings that RFC 8032 forbids: a sign of zero, and every y that is not below the prime."""
WEAK_KEYS = {**SMALL_ORDER_POINTS, **OTHER_ENCODINGS}


@pytest.mark.parametrize("encoded", WEAK_KEYS.values(), ids=WEAK_KEYS)
def test_a_weak_public_key_is_rejected(encoded: str, tmp_path: Path) -> None:
    """The key is rejected as text and in a file, and no signature is valid for it."""
    key = PublicKey("tallybook", bytes.fromhex(encoded))
    file = tmp_path / "key"
    file.write_text(f"{key}\n")
    for source in (str(key), file):
        with pytest.raises(TallybookError, match="anyone can sign") as exc_info:
            PublicKey.load(source)
        assert exc_info.value.code == "invalid_signing_key"
    for signature in forged_signatures():
        assert not key.has_signed(Note("text\n", (Signature(key.name, key.key_hash, signature),)))


def forged_signatures() -> list[bytes]:
    """Return signatures that are made without a private key: a point of small order, and zero."""
    return [bytes.fromhex(point) + bytes(32) for point in SMALL_ORDER_POINTS.values()]


@pytest.mark.parametrize("encoded", SMALL_ORDER_POINTS.values(), ids=SMALL_ORDER_POINTS)
def test_forged_signatures_for_weak_keys_are_valid_for_the_library(encoded: str) -> None:
    """The check is necessary: for each key, one of eight forged signatures is valid for almost every text."""
    key = bytes.fromhex(encoded)
    forged = [
        text for text in range(50)
        if any(ed25519.is_valid_signature(key, signature, b"%d" % text) for signature in forged_signatures())
    ]  # fmt: skip
    assert len(forged) > 25


def test_ordinary_keys_are_accepted(tmp_path: Path) -> None:
    """Examples: generated keys, and keys with the smallest and largest allowed y."""
    for number in range(20):
        key = PrivateKey.generate(tmp_path / f"{number}.pem", "tallybook")
        assert PublicKey.load(str(key.public_key)).has_signed(key.sign("text\n"))
    assert not any(is_weak_public_key(y.to_bytes(32, "little")) for y in (2, PRIME - 2))
