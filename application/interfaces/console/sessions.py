"""Sessions of the console: a login exchanges an access key for a random token, of which only a hash is stored."""

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

import msgspec

from ....domain.access_key import Scope
from ....domain.timestamps import from_microseconds, to_microseconds
from ...access_keys.views import AccessKeyView
from ...storage.key_value import KeyValueEntry, KeyValueStore
from ..http.authentication import Authenticator
from ..http.errors import ApiError

SESSION_KIND = "console session"
IDLE_LIFETIME = timedelta(hours=8)
"""How long a session lasts without a request."""
LIFETIME = timedelta(hours=24)
RENEWAL_INTERVAL = timedelta(minutes=5)
"""How long the time of the last request is not stored again, because most requests follow each other."""
_PURGED_AT_ONCE = 500


class _StoredSession(msgspec.Struct, array_like=True):
    key_id: str
    created: int


class NewSession(NamedTuple):
    """A new session: its token, which is sent to the browser once, and its access key."""

    token: str
    access_key: AccessKeyView


class Sessions:
    """The sessions of a server, in the key-value store of its live ledger, so that all workers share them.

    The time of an entry is when the session expires, unless it is used before. A session is valid only while the
    access key is, which is read from the ledger for each request.
    """

    def __init__(self, key_values: KeyValueStore, authenticator: Authenticator, clock: Callable[[], datetime]) -> None:
        self._key_values = key_values
        self._authenticator = authenticator
        self._clock = clock

    def create(self, credentials: str) -> NewSession:
        """Return a new session for an access key. Raises ApiError, also without the scope `read`."""
        access_key = self._authenticator.authenticate(credentials, Scope.READ)
        now, token = self._clock(), secrets.token_urlsafe(32)
        self._key_values.delete_due_before(SESSION_KIND, to_microseconds(now), _PURGED_AT_ONCE)
        session = _StoredSession(access_key.id, to_microseconds(now))
        self._key_values.apply(insert=[_entry(_storage_key(token), session, now)])
        return NewSession(token, access_key)

    def authenticate(self, token: str) -> AccessKeyView | None:
        """Return the access key of a session as it is now; None if the session has ended or the key is revoked."""
        key = _storage_key(token)
        entry = self._key_values.get(SESSION_KIND, [key]).get(key)
        now = self._clock()
        if entry is None or now >= from_microseconds(entry.at):
            return None
        session = msgspec.msgpack.decode(entry.body, type=_StoredSession)
        try:
            access_key = self._authenticator.reauthenticate(session.key_id)
        except ApiError:
            self.end(token)
            return None
        renewed = _entry(key, session, now)
        if renewed.at - entry.at > RENEWAL_INTERVAL / timedelta(microseconds=1):
            self._key_values.apply(upsert=[renewed])
        return access_key

    def end(self, token: str) -> None:
        """End a session, if it exists."""
        self._key_values.apply(delete=[(SESSION_KIND, _storage_key(token))])


def _entry(key: str, session: _StoredSession, now: datetime) -> KeyValueEntry:
    expires_at = min(now + IDLE_LIFETIME, from_microseconds(session.created) + LIFETIME)
    return KeyValueEntry(SESSION_KIND, key, to_microseconds(expires_at), msgspec.msgpack.encode(session))


def _storage_key(token: str) -> str:
    return sha256(token.encode()).hexdigest()
