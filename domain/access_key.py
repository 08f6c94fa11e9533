"""The AccessKey aggregate: a secret that grants scopes on one ledger.

Invariant: a revoked key never becomes valid again, and its first revocation is final.
"""

import hmac
import operator
from datetime import datetime
from enum import StrEnum

from pydantic import Field

from .aggregate import Aggregate
from .errors import InvalidParameter

STREAM_PREFIX = "key/"


class Scope(StrEnum):
    """A group of operations that an access key allows. `admin` includes all others."""

    RECORD = "record"
    CANCEL = "cancel"
    CLOSE = "close"
    RULES = "rules"
    APPROVE = "approve"
    KEYS = "keys"
    READ = "read"
    ADMIN = "admin"

    def allows(self, required: "Scope") -> bool:
        """Return whether this scope permits an operation that requires `required`; `admin` permits all."""
        return self in (required, Scope.ADMIN)


class AccessKey(Aggregate):
    """A key to the ledger. The ledger stores a salted hash of its secret, never the secret."""

    class AccessKeyCreated(Aggregate.Created):
        """The key was created. `hash` is the HMAC of the secret keyed with `salt`, both in hexadecimal.

        If there are `customers`, it permits to read their data only. `is_record_only` is set if the scope `record`
        doesn't include `cancel`. It did when there was no such scope, and stored keys keep it.
        """

        name: str
        scopes: tuple[Scope, ...]
        livemode: bool
        salt: str
        hash: str
        by: str | None
        customers: tuple[str, ...] = Field(default=(), exclude_if=operator.not_)
        is_record_only: bool = Field(default=False, exclude_if=operator.not_)

    class AccessKeyRevoked(Aggregate.Event):
        """The key was revoked."""

        reason: str | None
        by: str | None

        def apply(self, aggregate: "AccessKey") -> None:
            """Set when, why and by whom the key was revoked."""
            aggregate.revoked_at = self.timestamp
            aggregate.revoked_by = self.by
            aggregate.reason = self.reason

    def __init__(
        self,
        name: str,
        scopes: tuple[Scope, ...],
        livemode: bool,
        salt: str,
        hash: str,  # noqa: A002 - as it is stored
        by: str | None,
        customers: tuple[str, ...] = (),
        is_record_only: bool = False,
    ) -> None:
        self.name = name
        self.customers = customers
        includes_cancel = Scope.RECORD in scopes and not is_record_only
        self.scopes = tuple(scope for scope in Scope if scope in scopes or (scope is Scope.CANCEL and includes_cancel))
        self.livemode = livemode
        self.salt = salt
        self.hash = hash
        self.created_by = by
        self.revoked_at: datetime | None = None
        self.revoked_by: str | None = None
        self.reason: str | None = None

    @staticmethod
    def stream_id(key_id: str) -> str:
        """Return the id of the stream of the key `key_id`."""
        return STREAM_PREFIX + key_id

    @property
    def key_id(self) -> str:
        """The public id of the key; it is not secret."""
        return self.id.removeprefix(STREAM_PREFIX)

    @property
    def is_revoked(self) -> bool:
        """Whether the key was revoked."""
        return self.revoked_at is not None

    @classmethod
    def create(
        cls, key_id: str, secret: str, *, salt: str, name: str, scopes: tuple[Scope, ...], livemode: bool,
        by: str | None, at: datetime, customers: tuple[str, ...] = (),
    ) -> "AccessKey":  # fmt: skip
        """Create a key. `salt` is 32 random bytes in hexadecimal; the secret itself is not stored.

        A key that is limited to `customers` may only read. Raises InvalidParameter.
        """
        if customers and scopes != (Scope.READ,):
            raise InvalidParameter(
                "A key that is limited to customers may only have the scope read: a caller who records, or is "
                "an admin, changes what others see.",
                field="customers",
            )
        return cls._create(
            cls.AccessKeyCreated, id=cls.stream_id(key_id), timestamp=at, name=name, scopes=scopes, livemode=livemode,
            salt=salt, hash=hash_secret(salt, secret), by=by, customers=customers,
            is_record_only=Scope.RECORD in scopes and Scope.CANCEL not in scopes,
        )  # fmt: skip

    def verify_secret(self, secret: str) -> bool:
        """Return whether `secret` is the key's secret, compared in constant time."""
        return hmac.compare_digest(hash_secret(self.salt, secret), self.hash)

    def revoke(self, *, reason: str | None, by: str | None, at: datetime) -> None:
        """Revoke the key; do nothing if it is revoked already."""
        if not self.is_revoked:
            self.trigger_event(self.AccessKeyRevoked, timestamp=at, reason=reason, by=by)


def hash_secret(salt: str, secret: str) -> str:
    """Return the HMAC-SHA256 of a secret, keyed with its salt, in hexadecimal. Source: docs/decisions/0011."""
    return hmac.digest(bytes.fromhex(salt), secret.encode(), "sha256").hex()
