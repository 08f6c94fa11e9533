"""Ids of objects in the API. An id encodes what it identifies, so that ids need no storage."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Any, TypeVar

import msgspec

from ....domain.text import is_storable

METER_PREFIX, METER_EVENT_PREFIX, CLOSED_PERIOD_PREFIX = "mtr", "mtrevt", "mtrper"


def encode_id(prefix: str, name: str) -> str:
    """Return the id of `name`: opaque, and always the same."""
    return f"{prefix}_{urlsafe_b64encode(name.encode()).decode().rstrip('=')}"


def decode_id(prefix: str, object_id: str) -> str | None:
    """Return the name that an id encodes; None if it is not an id of this kind."""
    encoded = object_id.removeprefix(f"{prefix}_")
    try:
        name = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except ValueError:
        return None
    return name if encode_id(prefix, name) == object_id else None


Parts = TypeVar("Parts", bound=tuple[Any, ...])

MAX_NAME_BYTES = 1_000
"""Ids are part of URLs: of a longer name, an id contains the digest."""


def encode_compound_id(prefix: str, parts: tuple[str | int, ...]) -> str:
    """Return the id that encodes these parts."""
    return encode_id(prefix, msgspec.json.encode(parts).decode())


def decode_compound_id(prefix: str, object_id: str, parts_type: type[Parts]) -> Parts | None:
    """Return the parts that an id encodes; None if it is not an id of this kind."""
    name = decode_id(prefix, object_id)
    if name is None:
        return None
    try:
        parts = msgspec.json.decode(name, type=parts_type)
    except (msgspec.DecodeError, UnicodeError):
        return None
    texts = (part for part in parts if isinstance(part, str))
    return parts if encode_compound_id(prefix, parts) == object_id and all(map(is_storable, texts)) else None


def name_token(name: str) -> str:
    """Return the representation of a customer or another name in an id: the name, or its digest if it is long."""
    encoded = name.encode()
    return f"={sha256(encoded).hexdigest()}" if len(encoded) > MAX_NAME_BYTES else f"-{name}"


def name_from_token(token: str) -> str | None:
    """Return the name of a token; None if the token is a digest or not valid."""
    return token[1:] if token.startswith("-") else None
