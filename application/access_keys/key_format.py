"""The text of an access key: a prefix with its kind and mode, its id, and its secret."""

import re
import secrets
from collections.abc import Collection
from typing import NamedTuple

from ...domain.access_key import Scope

_ID_BYTES = 8
_SECRET_BYTES = 32
_KEY = re.compile(r"(?P<hint>[rs]k_(?:live|test)_(?P<key_id>[0-9a-f]{16}))_(?P<secret>[\w-]{43})", re.ASCII)
_KEY_ID = re.compile(r"[0-9a-f]{16}")
_PREFIX = re.compile(r"[rs]k_(?:live|test)_")
_LIKE_A_KEY = re.compile(r"[\w-]{24,}", re.ASCII)


class ParsedKey(NamedTuple):
    """The parts of a key: the hint, which may be shown, the id in it, and the secret."""

    hint: str
    key_id: str
    secret: str


def key_hint(key_id: str, scopes: Collection[Scope], *, livemode: bool) -> str:
    """Return the part of a key that may be shown. Keys with the admin scope start with sk, restricted keys with rk.

    Source: Stripe's prefixes.
    """
    kind = "sk" if Scope.ADMIN in scopes else "rk"
    return f"{kind}_{'live' if livemode else 'test'}_{key_id}"


def generate_key(scopes: Collection[Scope], *, livemode: bool) -> ParsedKey:
    """Generate a key whose secret has 256 bits of randomness."""
    key_id = secrets.token_hex(_ID_BYTES)
    return ParsedKey(key_hint(key_id, scopes, livemode=livemode), key_id, secrets.token_urlsafe(_SECRET_BYTES))


def format_key(key: ParsedKey) -> str:
    """Return the text of a key, as its owner receives it."""
    return f"{key.hint}_{key.secret}"


def parse_key(text: object) -> ParsedKey | None:
    """Return the parts of a key, or None if `text` does not have the format of a key."""
    match = _KEY.fullmatch(text) if isinstance(text, str) else None
    return None if match is None else ParsedKey(match["hint"], match["key_id"], match["secret"])


def is_key_id(text: object) -> bool:
    """Return whether `text` has the format of a key id. No secret has it."""
    return isinstance(text, str) and _KEY_ID.fullmatch(text) is not None


def redact_key(text: object) -> str:
    """Return a key as a message may show it: its prefix and its last four characters. Source: Stripe's message.

    Text too short for a key is masked completely: it may be a password.
    """
    if not isinstance(text, str):
        return "****"
    prefix = _PREFIX.match(text)
    return f"{prefix[0] if prefix else ''}****{text[-4:] if _LIKE_A_KEY.fullmatch(text) else ''}"
