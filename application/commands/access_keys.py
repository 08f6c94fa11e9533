"""Access keys: create, revoke, get and list them."""

import secrets
from collections.abc import Callable, Iterable
from datetime import datetime

from eventsourcing.persistence import IntegrityError

from ...domain.access_key import AccessKey, Scope
from ...domain.errors import AccessKeyNotFound, InvalidParameter
from ...domain.plain_types import plain_text
from ...domain.timestamps import ensure_utc
from ..access_keys.authentication import SALT_BYTES, Authenticator
from ..access_keys.key_format import format_key, generate_key, is_key_id, redact_key
from ..access_keys.views import AccessKeyView, NewAccessKey
from ..ledger.ledger import Ledger
from ..ledger.retry import retry_on_connection_loss
from ..validation import optional_note, require_bool, require_choice, require_text, require_texts

MAX_CUSTOMERS, MAX_CUSTOMER_LENGTH = 100, 5_000
"""Of one key. The length is that of a value of a payload."""


class AccessKeyCommands:
    """The access keys of a ledger: `metering.access_keys`."""

    def __init__(
        self, ledger: Ledger, clock: Callable[[], datetime], authenticator: Authenticator | None = None
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._authenticator = authenticator or Authenticator(ledger)

    def create(
        self,
        scopes: Iterable[str],
        name: str = "",
        *,
        livemode: bool = True,
        by: str | None = None,
        customers: Iterable[str] = (),
    ) -> NewAccessKey:
        """Create an access key. The returned `key` is shown this one time and not stored.

        `scopes` are some of record, cancel, close, rules, approve, keys, read and admin; admin includes the others.
        `name` is a label of at most 250 characters. With `customers`, a key with the scope read may only read the
        totals, summaries, meter events and explanations of these customers, so that it may be given to them. The ledger
        stores a keyed hash of the key, the requester and the time.
        """
        key_scopes = _parse_scopes(scopes)
        name = "" if plain_text(name) == "" else require_text(name, "name", 250)
        limited_to = require_texts(customers, "customers", MAX_CUSTOMER_LENGTH, MAX_CUSTOMERS)
        is_live, by = require_bool(livemode, "livemode"), optional_note(by, "by")
        while True:
            generated = generate_key(key_scopes, livemode=is_live)
            key = AccessKey.create(
                generated.key_id, generated.secret, salt=secrets.token_hex(SALT_BYTES), name=name, scopes=key_scopes,
                livemode=is_live, by=by, at=ensure_utc(self._clock(), "clock"), customers=limited_to,
            )  # fmt: skip
            try:
                self._ledger.append(key.collect_events())
            except IntegrityError:
                continue  # the id is taken, which happens once in about 2**64 times
            return NewAccessKey(format_key(generated), AccessKeyView.from_aggregate(key))

    def revoke(self, key_id: str, *, reason: str | None = None, by: str | None = None) -> AccessKeyView:
        """Revoke a key, for all processes at once. Return the first revocation if it was revoked before.

        Raises AccessKeyNotFound.
        """
        reason, by = optional_note(reason, "reason"), optional_note(by, "by")
        while True:
            key = self._find(key_id)
            key.revoke(reason=reason, by=by, at=ensure_utc(self._clock(), "clock"))
            try:
                self._ledger.append(key.collect_events())
            except IntegrityError:
                continue  # another process revoked it in between: return that revocation
            return AccessKeyView.from_aggregate(key)

    @retry_on_connection_loss
    def get(self, key_id: str) -> AccessKeyView:
        """Return a key, revoked or not. Raises AccessKeyNotFound."""
        return AccessKeyView.from_aggregate(self._find(key_id))

    def authenticate(self, text: str) -> AccessKeyView:
        """Return the access key with this text, if it is valid now. Raises InvalidAccessKey.

        The message is the same whatever is wrong, and does not contain the key.
        """
        return self._authenticator.authenticate(text)

    @retry_on_connection_loss
    def list(self) -> list[AccessKeyView]:
        """Return all keys in the order of their creation, including revoked ones. Their secrets are not stored."""
        return [AccessKeyView.from_aggregate(key) for key in self._ledger.access_keys()]

    def _find(self, key_id: str) -> AccessKey:
        text = plain_text(key_id)
        if text is None or not is_key_id(text):  # it may be a whole key, which no message shows
            raise AccessKeyNotFound(
                f"There is no access key {redact_key(text)}: ids have 16 hexadecimal digits.", field="id"
            )
        key = self._ledger.find_access_key(text)
        if key is None:
            raise AccessKeyNotFound(f"There is no access key {text!r}.", field="id", value=text)
        return key


def _parse_scopes(scopes: object) -> tuple[Scope, ...]:
    """Return the scopes without duplicates, in the order of their definition. Raises InvalidParameter."""
    requested = {require_choice(scope, "scopes", Scope) for scope in require_texts(scopes, "scopes", 100, len(Scope))}
    if not requested:
        raise InvalidParameter(f"'scopes' must contain at least one of {', '.join(Scope)}.", field="scopes")
    return tuple(scope for scope in Scope if scope in requested)
