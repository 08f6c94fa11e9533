"""Ids that are made of several parts, and what stands for a customer in them."""

from hashlib import sha256
from typing import Any, TypeVar

import msgspec

from ...domain.texts import is_storable
from .ids import id_of, name_of

Parts = TypeVar("Parts", bound=tuple[Any, ...])

LONGEST_NAME_BYTES = 1_000
"""A longer customer's name isn't in an id, which has its place in a URL: its digest is."""


def compound_id(kind: str, parts: tuple[str | int, ...]) -> str:
    """The id of what these parts name."""
    return id_of(kind, msgspec.json.encode(parts).decode())


def parts_of(kind: str, given: str, shape: type[Parts]) -> Parts | None:
    """The parts that an id is made of; None where it is no id of this kind."""
    name = name_of(kind, given)
    if name is None:
        return None
    try:
        parts = msgspec.json.decode(name, type=shape)
    except (msgspec.DecodeError, UnicodeError):
        return None
    texts = (part for part in parts if isinstance(part, str))
    return parts if compound_id(kind, parts) == given and all(map(is_storable, texts)) else None


def mark_of(customer: str) -> str:
    """What stands for a customer in an id: the name, or its digest where it is long."""
    encoded = customer.encode()
    return f"={sha256(encoded).hexdigest()}" if len(encoded) > LONGEST_NAME_BYTES else f"-{customer}"


def marked(mark: str) -> str | None:
    """The customer whom a mark names; None where it is a digest, or no mark."""
    return mark[1:] if mark.startswith("-") else None
