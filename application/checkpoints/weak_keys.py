"""Ed25519 public keys for which anyone can sign.

If a key is a point of small order, a signature of a text is found in a few attempts, without a private key. Libraries
accept such keys, because RFC 8032 does not forbid them. See Chalkias et al., "Taming the many EdDSAs", 2020.
"""

_PRIME = 2**255 - 19
_ORDER_8_Y = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER_Y = {1, _PRIME - 1, 0, _ORDER_8_Y, _PRIME - _ORDER_8_Y}
"""The y coordinates of the points of the orders 1, 2, 4 and 8. Each of the last three belongs to two points."""
_SIGN_BIT = 1 << 255


def is_weak_public_key(key: bytes) -> bool:
    """Return whether a key of 32 bytes is a point of small order, or not the only encoding of its point."""
    y = int.from_bytes(key, "little") & ~_SIGN_BIT
    return y >= _PRIME or y in _SMALL_ORDER_Y
