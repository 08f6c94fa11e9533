"""Signatures: Ed25519 by RFC 8032, in signed notes (https://c2sp.org/signed-note)."""

from __future__ import annotations

import base64
import hashlib
from typing import Tuple

Point = Tuple[int, int, int, int]
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
NEUTRAL: Point = (0, 1, 1, 0)


class Wrong(Exception):
    """A file of the pack is not what it says. The argument is its name and what is wrong."""


def add(p: Point, q: Point) -> Point:
    """Return the sum of two points in extended coordinates."""
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply(number: int, point: Point) -> Point:
    """Return a multiple of a point."""
    result = NEUTRAL
    while number:
        if number & 1:
            result = add(result, point)
        point, number = add(point, point), number >> 1
    return result


def is_equal(p: Point, q: Point) -> bool:
    """Return whether two points are the same."""
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0


def decode_point(data: bytes) -> Point:
    """Return the point that 32 bytes encode. Raises ValueError."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if y >= P or (x * x - square) % P or (x == 0 and sign):
        raise ValueError("no point of the curve")
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


BASE = decode_point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def is_signature(key: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether a signature of a message is valid. A key for which anyone can sign has none."""
    try:
        point, commitment = decode_point(key), decode_point(signature[:32])
    except ValueError:
        return False
    s = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= ORDER or is_equal(multiply(8, point), NEUTRAL):
        return False
    challenge = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % ORDER
    return is_equal(multiply(s, BASE), add(commitment, multiply(challenge, point)))


def decode_base64(text: str) -> bytes:
    """Return the bytes that base64 writes so; none for other text."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return b""
    return data if base64.b64encode(data).decode() == text else b""


def require_signature(name: str, note: str, key_line: str) -> None:
    """Require that a note is signed by a public key, which is a line `NAME+HASH+KEY`."""
    text, _, signatures = note.rpartition("\n\n")
    owner, _, rest = key_line.partition("+")
    key = decode_base64(rest.partition("+")[2])
    key_hash = hashlib.sha256(owner.encode() + b"\n" + key).digest()[:4]
    if len(key) != 33 or rest.partition("+")[0] != key_hash.hex():
        raise Wrong("%s: %s is no public key" % (name, key_line))
    for line in signatures.split("\n")[:-1] if signatures.endswith("\n") else ():
        value = decode_base64(line.rpartition(" ")[2])
        is_own = line.rpartition(" ")[0] == "\u2014 %s" % owner and value[:4] == key_hash
        if is_own and is_signature(key[1:], value[4:], (text + "\n").encode()):
            return
    raise Wrong("%s: it is not signed by %s" % (name, key_line))
