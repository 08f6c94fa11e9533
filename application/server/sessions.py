"""Sessions: tokens for the stream of meter events, which live for a quarter of an hour."""

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

import msgspec

from ...domain.access_key import Scope
from ...domain.instants import instant, microseconds
from ..access import AccessKeyView
from ..stores.kept import Keeper, KeptRow
from .credentials import Gate, permitted, unauthorized

SESSION = "session"
LIFE = timedelta(minutes=15)
EXPIRED_CODE, EXPIRED_TYPE = "billing_meter_event_session_expired", "temporary_session_expired"
EXPIRED_URL = "https://docs.stripe.com/error-codes#billing-meter-event-session-expired"


class Session(NamedTuple):
    """A session that has begun. The token is told this once: its hash is what is kept."""

    id: str
    token: str
    created: datetime
    expires_at: datetime


class _Kept(msgspec.Struct, array_like=True):
    key_id: str


class Sessions:
    """The sessions of one ledger. Each lets in for as long as the key that began it would."""

    def __init__(self, keeper: Keeper, gate: Gate, clock: Callable[[], datetime], *, livemode: bool) -> None:
        self._keeper = keeper
        self._gate = gate
        self._clock = clock
        self._mode = "live" if livemode else "test"

    def begin(self, key: AccessKeyView) -> Session:
        """Begin a session for who has `key`."""
        created = self._clock()
        token = f"mes_{self._mode}_{secrets.token_urlsafe(32)}"
        session = Session(f"mes_{secrets.token_hex(12)}", token, created, created + LIFE)
        body = msgspec.msgpack.encode(_Kept(key.id))
        self._keeper.change(add=[KeptRow(SESSION, _place(token), microseconds(session.expires_at), body)])
        return session

    def enter(self, token: str) -> AccessKeyView:
        """The key that began the session with this token, as it is at this moment. Raises Refusal."""
        place = _place(token)
        row = self._keeper.get(SESSION, [place]).get(place) if token.startswith("mes_") else None
        if row is None:
            raise unauthorized("Invalid session token: begin a session at /v2/billing/meter_event_session.")
        if self._clock() >= instant(row.at):
            raise unauthorized("The session has expired: begin another one.", EXPIRED_CODE, EXPIRED_TYPE, EXPIRED_URL)
        key = self._gate.again(msgspec.msgpack.decode(row.body, type=_Kept).key_id)
        return permitted(key, Scope.RECORD)


def _place(token: str) -> str:
    return sha256(token.encode()).hexdigest()
