"""Packing: the usages of a run as one value of bytes, without what the run itself tells of all of them."""

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from ..domain.counting import Usage
from .runs import BucketKey


class _Packed(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A usage inside of its run."""

    occurred_at: int
    position: int
    value: Decimal | None
    recorded_at: int
    cancelled_at: int | None = None
    cancelled_position: int | None = None


def pack(usages: Sequence[Usage]) -> bytes:
    """The usages of a run: a MessagePack array whose head says their number in four bytes, so that others can join."""
    array = _encode(
        [
            (one.occurred_at, one.position, one.value, one.recorded_at)
            if one.cancelled_position is None
            else (
                one.occurred_at, one.position, one.value, one.recorded_at,
                one.cancelled_at, one.cancelled_position,
            )
            for one in usages
        ]
    )  # fmt: skip
    head = 1 if len(usages) < _SMALL_ARRAY else 3
    return _head(len(usages)) + array[head:]


def unpack(key: BucketKey, packed: bytes) -> list[Usage]:
    """The usages of a run in the bucket `key`. Raises MsgspecError, ArithmeticError or ValueError at what is none."""
    customer, _, dimensions = key
    return [
        Usage(
            customer, one.occurred_at, one.position, dimensions, one.value, one.recorded_at,
            one.cancelled_at, one.cancelled_position,
        )
        for one in _decode(packed)
    ]  # fmt: skip


def join(packed: bytes, later: bytes) -> bytes:
    """The usages of two runs as those of one. Raises ValueError at what is no such run."""
    return _head(_number_in(packed) + _number_in(later)) + packed[_HEAD:] + later[_HEAD:]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Packed]).decode
_HEAD = 5
_SMALL_ARRAY = 16


def _head(number: int) -> bytes:
    """The head of an array in MessagePack: 0xdd, and the number of what follows in four bytes."""
    return b"\xdd" + number.to_bytes(_HEAD - 1, "big")


def _number_in(packed: bytes) -> int:
    if packed[:1] != b"\xdd":
        raise ValueError("it isn't an array with a long head")
    return int.from_bytes(packed[1:_HEAD], "big")
