"""Embed tokens: short-lived signed tokens by which a page of one customer is shown inside of a host application.

A token is not stored. It names the access key that created it, and is valid only while that key is, and may read the
customer. All processes sign with one secret, which the ledger stores.
"""

import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from datetime import datetime, timedelta

import msgspec

from ....domain.access_key import Scope
from ....domain.timestamps import to_microseconds
from ...access_keys.views import AccessKeyView
from ...storage.key_value import EntryExists, KeyValueEntry
from .errors import ApiError
from .ledgers import LedgerRegistry, ServedLedger

SECRET_KIND, _SECRET_KEY = "embed secret", "1"
_MAX_TOKEN_LENGTH = 12_000


class EmbedClaims(msgspec.Struct, frozen=True, array_like=True):
    """What a token permits: to read one customer, until a time in microseconds since 1970."""

    key_id: str
    customer: str
    expires: int


class EmbedTokens:
    """Creates and checks the tokens of a ledger."""

    def __init__(self, ledger: ServedLedger) -> None:
        self._ledger = ledger
        self._prefix = _prefix(livemode=ledger.livemode)

    def create(self, access_key: AccessKeyView, customer: str, lifetime: timedelta) -> tuple[str, datetime]:
        """Return a token for a customer, and when it expires."""
        expires = self._ledger.now() + lifetime
        body = _encode(msgspec.json.encode(EmbedClaims(access_key.id, customer, to_microseconds(expires))))
        return f"{self._prefix}{body}.{self._signature(body)}", expires

    def verify(self, token: str) -> tuple[AccessKeyView, str] | None:
        """Return the access key of a token as it is now, and the customer; None if it isn't valid, or no longer."""
        body, _, signature = token.removeprefix(self._prefix).partition(".")
        if not hmac.compare_digest(signature, self._signature(body)):
            return None
        claims = msgspec.json.decode(urlsafe_b64decode(body + "=" * (-len(body) % 4)), type=EmbedClaims)
        if claims.expires <= to_microseconds(self._ledger.now()):
            return None
        try:
            access_key = self._ledger.authenticator.reauthenticate(claims.key_id)
        except ApiError:
            return None
        may_read = not access_key.customers or claims.customer in access_key.customers
        return (access_key, claims.customer) if may_read and access_key.allows(Scope.READ) else None

    def _signature(self, body: str) -> str:
        return _encode(hmac.digest(self._secret(), body.encode(), "sha256"))

    def _secret(self) -> bytes:
        """Return the secret of all processes, which the first one creates."""
        key_values = self._ledger.key_values
        stored = key_values.get(SECRET_KIND, [_SECRET_KEY]).get(_SECRET_KEY)
        if stored is None:
            at = to_microseconds(self._ledger.now())
            with suppress(EntryExists):  # another process has created it meanwhile
                key_values.apply(insert=[KeyValueEntry(SECRET_KIND, _SECRET_KEY, at, secrets.token_bytes(32))])
            stored = key_values.get(SECRET_KIND, [_SECRET_KEY])[_SECRET_KEY]
        return stored.body


def find_embedded(ledgers: LedgerRegistry, token: str) -> tuple[ServedLedger, AccessKeyView, str] | None:
    """Return the ledger, the access key and the customer of a token; None if it isn't valid."""
    if len(token) > _MAX_TOKEN_LENGTH or not token.isascii():
        return None
    for livemode in (True, False):
        if token.startswith(_prefix(livemode=livemode)) and ledgers.exists(livemode=livemode):
            ledger = ledgers.for_mode(livemode=livemode)
            found = EmbedTokens(ledger).verify(token)
            return None if found is None else (ledger, *found)
    return None


def _prefix(*, livemode: bool) -> str:
    return f"tb_embed_{'live' if livemode else 'test'}_"


def _encode(content: bytes) -> str:
    return urlsafe_b64encode(content).decode().rstrip("=")
