"""Authentication by access key, with a cache of the keys that were verified before."""

import secrets
import threading
from hashlib import sha256
from typing import NamedTuple

from eventsourcing.persistence import Notification

from ...domain.access_key import AccessKey, Scope
from ...domain.errors import InvalidAccessKey
from ...domain.plain_types import plain_text
from ...domain.timestamps import EPOCH
from ..ledger.ledger import Ledger
from ..ledger.retry import retry_on_connection_loss
from .key_format import generate_key, parse_key, redact_key
from .views import AccessKeyView

MAX_CACHED_KEYS = 10_000
SALT_BYTES = 32


class _CachedKey(NamedTuple):
    view: AccessKeyView
    version: int


class KeyCache:
    """Verified keys by the SHA-256 of their text, so that they need not be hashed again nor held in memory."""

    def __init__(self, ledger: Ledger, max_keys: int = MAX_CACHED_KEYS) -> None:
        self._ledger = ledger
        self._max_keys = max_keys
        self._keys: dict[bytes, _CachedKey] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, text: str) -> AccessKeyView | None:
        """Return the key with this text if it is cached and has not changed since.

        The version of its stream is read from the ledger each time: another process may have revoked the key.
        """
        cached = self._keys.get(_digest(text))
        if cached is None or self._ledger.access_key_version(cached.view.id) != cached.version:
            return None
        return cached.view

    def put(self, text: str, view: AccessKeyView, version: int) -> None:
        """Add a key that was verified at a version of its stream. The oldest entry is evicted if the cache is full."""
        digest = _digest(text)
        with self._lock:
            self._keys.pop(digest, None)
            if len(self._keys) >= self._max_keys:
                del self._keys[next(iter(self._keys))]
            self._keys[digest] = _CachedKey(view, version)


class Authenticator:
    """Verifies the text of access keys."""

    def __init__(self, ledger: Ledger, cache: KeyCache | None = None) -> None:
        self._ledger = ledger
        self.cache = KeyCache(ledger) if cache is None else cache
        self._dummy_key = _dummy_key(ledger)

    @retry_on_connection_loss
    def authenticate(self, text: object) -> AccessKeyView:
        """Return the access key with this text, if it is valid now. Raises InvalidAccessKey.

        The message is the same whatever is wrong, and does not contain the key. An unknown id takes as long as a wrong
        secret: it is compared with a dummy key.
        """
        text = plain_text(text)
        parsed = None if text is None else parse_key(text)
        if text is None or parsed is None:
            raise _invalid_key(text)
        view = self.cache.get(text)
        if view is not None:
            return view
        key = self._ledger.find_access_key(parsed.key_id, self._dummy_key)
        assert key is not None
        view = AccessKeyView.from_aggregate(key)
        if not key.verify_secret(parsed.secret) or key.is_revoked or view.hint != parsed.hint:
            raise _invalid_key(text)
        self.cache.put(text, view, key.version)
        return view


def _dummy_key(ledger: Ledger) -> tuple[Notification, ...]:
    """Return the stored events of a key that is in no ledger, with a random secret that is discarded."""
    scopes = (Scope.READ,)
    parsed = generate_key(scopes, livemode=False)
    key = AccessKey.create(
        parsed.key_id, parsed.secret, salt=secrets.token_hex(SALT_BYTES), name="", scopes=scopes, livemode=False,
        by=None, at=EPOCH,
    )  # fmt: skip
    stored_events = map(ledger.mapper.to_stored_event, key.collect_events())
    return tuple(
        Notification(stored.originator_id, stored.originator_version, stored.topic, stored.state, 0)
        for stored in stored_events
    )


def _invalid_key(text: object) -> InvalidAccessKey:
    return InvalidAccessKey(f"Invalid API Key provided: {redact_key(text)}.")


def _digest(text: str) -> bytes:
    return sha256(text.encode()).digest()
