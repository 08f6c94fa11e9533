"""How an access key is written: a prefix that tells what it is, its id, and its secret."""

import re
import secrets
from collections.abc import Collection
from typing import NamedTuple

from ..domain.access_key import Scope

_ID_BYTES = 8
_SECRET_BYTES = 32
_KEY = re.compile(r"(?P<hint>[rs]k_(?:live|test)_(?P<key_id>[0-9a-f]{16}))_(?P<secret>[\w-]{43})", re.ASCII)
_KEY_ID = re.compile(r"[0-9a-f]{16}")
_PREFIX = re.compile(r"[rs]k_(?:live|test)_")
_LIKE_A_KEY = re.compile(r"[\w-]{24,}", re.ASCII)


class KeyText(NamedTuple):
    """A key, taken apart: the part that may be shown, the id in it, and the secret."""

    hint: str
    key_id: str
    secret: str


def hint_of(key_id: str, scopes: Collection[Scope], *, livemode: bool) -> str:
    """The part of a key that may be shown: secret keys may do everything, restricted ones what they are for.

    Source: Stripe's prefixes.
    """
    kind = "sk" if Scope.ADMIN in scopes else "rk"
    return f"{kind}_{'live' if livemode else 'test'}_{key_id}"


def new_key(scopes: Collection[Scope], *, livemode: bool) -> KeyText:
    """A key that nobody can guess: its secret has 256 bits of randomness."""
    key_id = secrets.token_hex(_ID_BYTES)
    return KeyText(hint_of(key_id, scopes, livemode=livemode), key_id, secrets.token_urlsafe(_SECRET_BYTES))


def written(key: KeyText) -> str:
    """The key as its holder gets it."""
    return f"{key.hint}_{key.secret}"


def taken_apart(text: object) -> KeyText | None:
    """The parts of a key; None where it isn't written like one."""
    found = _KEY.fullmatch(text) if isinstance(text, str) else None
    return None if found is None else KeyText(found["hint"], found["key_id"], found["secret"])


def is_key_id(text: object) -> bool:
    """Whether `text` is written like the id of a key, which no secret is."""
    return isinstance(text, str) and _KEY_ID.fullmatch(text) is not None


def masked(text: object) -> str:
    """A key as a message may show it: its prefix and its last four characters. Source: Stripe's message.

    Of what is too short for a key nothing is shown at the end: it may be a password.
    """
    if not isinstance(text, str):
        return "****"
    prefix = _PREFIX.match(text)
    return f"{prefix[0] if prefix else ''}****{text[-4:] if _LIKE_A_KEY.fullmatch(text) else ''}"
