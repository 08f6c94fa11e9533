"""Authentication: access keys in the Authorization header, their scopes, and tokens of stream sessions."""

import secrets
from base64 import b64decode
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

import msgspec

from ....domain.access_key import Scope
from ....domain.errors import InvalidAccessKey
from ....domain.timestamps import from_microseconds, to_microseconds
from ...access_keys.views import AccessKeyView
from ...metering import Metering
from ...storage.key_value import KeyValueEntry, KeyValueStore
from .errors import ApiError

IS_AUTHENTICATED = "is_authenticated"
"""The name in the state of an ASGI scope: whether the request had a valid access key."""
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="Tallybook"'}


def unauthorized(
    message: str, code: str = "", error_type: str = "invalid_request_error", doc_url: str = ""
) -> ApiError:
    """Return a 401 error."""
    return ApiError(401, message, error_type=error_type, code=code, doc_url=doc_url, headers=_CHALLENGE)


def parse_credentials(authorization: str) -> str:
    """Return the key of an Authorization header: Bearer, or the user of Basic as `curl -u` sends it; empty if none."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return encoded.strip()
    if scheme.lower() == "basic":
        try:
            return b64decode(encoded.strip(), validate=True).decode().partition(":")[0]
        except ValueError:
            return ""
    return ""


class Authenticator:
    """Checks access keys and their scopes."""

    def __init__(self, metering: Metering) -> None:
        self._metering = metering

    def authenticate(self, credentials: str, scope: Scope, *, admits_limited: bool = False) -> AccessKeyView:
        """Return the access key of `credentials`. Raises ApiError: 401 if it is not valid, 403 without the scope.

        A key that is limited to customers gets 403 unless `admits_limited`: then the caller limits what it reads.
        """
        if not credentials:
            raise unauthorized(
                "You did not provide an API key. Provide it in the Authorization header, using Bearer auth (e.g. "
                "'Authorization: Bearer YOUR_SECRET_KEY')."
            )
        try:
            access_key = self._metering.access_keys.authenticate(credentials)
        except InvalidAccessKey as error:
            raise unauthorized(error.message, error.code) from None
        return require_scope(access_key if admits_limited else _require_unlimited(access_key), scope)

    def reauthenticate(self, key_id: str) -> AccessKeyView:
        """Return the access key with an id. Raises ApiError if it has been revoked."""
        access_key = self._metering.access_keys.get(key_id)
        if access_key.revoked_at is not None:
            raise unauthorized("The access key that created this session has been revoked.")
        return access_key


def require_scope(access_key: AccessKeyView, scope: Scope) -> AccessKeyView:
    """Return the key if it has the scope. Raises ApiError."""
    if not access_key.allows(scope):
        raise ApiError(
            403,
            f"The provided key '{access_key.hint}' does not have the required permissions for this endpoint: it needs "
            f"the scope '{scope}'.",
            code="more_permissions_required",
        )
    return access_key


def _require_unlimited(access_key: AccessKeyView) -> AccessKeyView:
    """Return the key if it is not limited to customers. Raises ApiError."""
    if access_key.customers:
        raise ApiError(
            403,
            f"The provided key '{access_key.hint}' is limited to some customers: it may read their summaries, totals, "
            "meter events and explanations, and nothing else.",
            code="more_permissions_required",
        )
    return access_key


def require_livemode(access_key: AccessKeyView) -> AccessKeyView:
    """Return the key if it is for live mode. Raises ApiError."""
    if not access_key.livemode:
        raise ApiError(
            403,
            f"The provided key '{access_key.hint}' is for test mode, and this endpoint shows live mode: "
            "use a live mode key.",
            code="livemode_mismatch",
        )
    return access_key


SESSION_KIND = "session"
SESSION_LIFETIME = timedelta(minutes=15)
EXPIRED_CODE, EXPIRED_TYPE = "billing_meter_event_session_expired", "temporary_session_expired"
EXPIRED_URL = "https://docs.stripe.com/error-codes#billing-meter-event-session-expired"


class StreamSession(NamedTuple):
    """A new session. The token is returned once: only its hash is stored."""

    id: str
    token: str
    created: datetime
    expires_at: datetime


class _StoredSession(msgspec.Struct, array_like=True):
    key_id: str


class StreamSessions:
    """The stream sessions of one ledger. A session is valid only while the key that created it is."""

    def __init__(
        self, key_values: KeyValueStore, authenticator: Authenticator, clock: Callable[[], datetime], *, livemode: bool
    ) -> None:
        self._key_values = key_values
        self._authenticator = authenticator
        self._clock = clock
        self._mode = "live" if livemode else "test"

    def create(self, access_key: AccessKeyView) -> StreamSession:
        """Create a session for the owner of an access key."""
        created = self._clock()
        token = f"mes_{self._mode}_{secrets.token_urlsafe(32)}"
        session = StreamSession(f"mes_{secrets.token_hex(12)}", token, created, created + SESSION_LIFETIME)
        body = msgspec.msgpack.encode(_StoredSession(access_key.id))
        self._key_values.apply(
            insert=[KeyValueEntry(SESSION_KIND, _storage_key(token), to_microseconds(session.expires_at), body)]
        )
        return session

    def authenticate(self, token: str) -> AccessKeyView:
        """Return the key that created the session with this token, with its current state. Raises ApiError."""
        storage_key = _storage_key(token)
        entry = self._key_values.get(SESSION_KIND, [storage_key]).get(storage_key) if token.startswith("mes_") else None
        if entry is None:
            raise unauthorized("Invalid session token: create a session at /v2/billing/meter_event_session.")
        if self._clock() >= from_microseconds(entry.at):
            raise unauthorized("The session has expired: create another one.", EXPIRED_CODE, EXPIRED_TYPE, EXPIRED_URL)
        access_key = self._authenticator.reauthenticate(msgspec.msgpack.decode(entry.body, type=_StoredSession).key_id)
        return require_scope(access_key, Scope.RECORD)


def _storage_key(token: str) -> str:
    return sha256(token.encode()).hexdigest()
