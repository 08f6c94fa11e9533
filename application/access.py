"""Access keys: created, revoked, listed, and recognised. No key, no entry."""

import secrets
from collections.abc import Callable, Iterable
from datetime import datetime

from eventsourcing.persistence import IntegrityError, Notification

from ..domain.access_key import AccessKey, Scope
from ..domain.errors import InvalidAccessKey, InvalidParameter, NoAccessKey
from ..domain.instants import EPOCH, in_utc
from ..domain.texts import shown
from .access_key_text import KeyText, is_key_id, masked, new_key, taken_apart, written
from .access_views import AccessKeyView, NewAccessKey
from .again import again_if_lost
from .arguments import choice, note, text, texts
from .ledger import Ledger
from .verified_keys import VerifiedKeys

SALT_BYTES = 32


class AccessKeys:
    """The access keys of a ledger."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self.ledger = ledger
        self.clock = clock
        self.verified = VerifiedKeys(ledger)
        self._nobody = _nobody(ledger)

    def create(
        self, scopes: Iterable[str], name: str = "", *, livemode: bool = True, by: str | None = None
    ) -> NewAccessKey:
        """Begin a key; the answer is the only time that it is told."""
        given = _scopes(scopes)
        named = "" if name == "" else text(name, "name", 250)
        is_live, asker = _flag(livemode, "livemode"), note(by, "by")
        while True:
            key = new_key(given, livemode=is_live)
            created = _begun(key, given, named, livemode=is_live, by=asker, at=self._now())
            try:
                self.ledger.append(created.collect_events())
            except IntegrityError:
                continue  # the id is taken, which happens once in 2**64 or so
            return NewAccessKey(written(key), AccessKeyView.of(created))

    def revoke(self, key_id: str, *, reason: str | None = None, by: str | None = None) -> AccessKeyView:
        """Let a key open nothing any more; give the first revocation where it was revoked before."""
        why, asker = note(reason, "reason"), note(by, "by")
        while True:
            key = self.ledger.access_key(key_id) if is_key_id(key_id) else None
            if key is None:
                raise _unknown(key_id)
            key.revoke(reason=why, by=asker, at=self._now())
            try:
                self.ledger.append(key.collect_events())
            except IntegrityError:
                continue  # revoked by somebody else in between: give that revocation
            return AccessKeyView.of(key)

    @again_if_lost
    def get(self, key_id: str) -> AccessKeyView:
        """One key, also a revoked one. Raises NoAccessKey."""
        key = self.ledger.access_key(key_id) if is_key_id(key_id) else None
        if key is None:
            raise _unknown(key_id)
        return AccessKeyView.of(key)

    @again_if_lost
    def all(self) -> list[AccessKeyView]:
        """All keys, also revoked ones, in the order of their creation."""
        return [AccessKeyView.of(key) for key in self.ledger.access_keys()]

    @again_if_lost
    def authenticate(self, text: str) -> AccessKeyView:
        """The key that is written `text`, if it is one that opens something. Raises InvalidAccessKey.

        An id that there is no key of is answered out of a key that nobody has, as a wrong secret is out of its own.
        """
        key = taken_apart(text)
        if key is None:
            raise _refused(text)
        view = self.verified.get(text)
        if view is not None:
            return view
        found = self.ledger.access_key(key.key_id, self._nobody)
        assert found is not None
        view = AccessKeyView.of(found)
        if not found.has_secret(key.secret) or found.is_revoked or view.hint != key.hint:
            raise _refused(text)
        self.verified.keep(text, view, found.version)
        return view

    def _now(self) -> datetime:
        return in_utc(self.clock(), "clock")


def _begun(
    key: KeyText, scopes: tuple[Scope, ...], name: str, *, livemode: bool, by: str | None, at: datetime
) -> AccessKey:
    salt = secrets.token_hex(SALT_BYTES)
    return AccessKey.create(
        key.key_id, key.secret, salt=salt, name=name, scopes=scopes, livemode=livemode, by=by, at=at
    )


def _nobody(ledger: Ledger) -> tuple[Notification, ...]:
    """A key as it is stored, that is stored nowhere and whose secret nobody knows."""
    scopes = (Scope.READ,)
    begun = _begun(new_key(scopes, livemode=False), scopes, "", livemode=False, by=None, at=EPOCH)
    stored = [ledger.mapper.to_stored_event(event) for event in begun.collect_events()]
    return tuple(Notification(one.originator_id, one.originator_version, one.topic, one.state, 0) for one in stored)


def _scopes(given: object) -> tuple[Scope, ...]:
    """Different scopes, at least one, always in the same order. Raises InvalidParameter."""
    asked = {choice(one, "scopes", Scope) for one in texts(given, "scopes", 100, len(Scope))}
    if not asked:
        raise InvalidParameter("'scopes' must name what the key is for: record, read or admin.", field="scopes")
    return tuple(one for one in Scope if one in asked)


def _flag(value: object, field: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidParameter(f"{field!r} must be True or False, not {shown(value)}.", field=field, value=value)
    return value


def _unknown(key_id: object) -> NoAccessKey:
    if is_key_id(key_id):
        return NoAccessKey(f"There is no access key {key_id!r}.", field="id", value=key_id)
    # What was given may be a whole key, which no message shows.
    return NoAccessKey(f"There is no access key {masked(key_id)}: ids have 16 hexadecimal digits.", field="id")


def _refused(given: object) -> InvalidAccessKey:
    return InvalidAccessKey(f"Invalid API Key provided: {masked(given)}.")
