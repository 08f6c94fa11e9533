"""An access key: who holds its secret may do what its scopes allow, until it is revoked."""

import hmac
from datetime import datetime
from enum import StrEnum

from .aggregate import Aggregate

STREAM_PREFIX = "key/"


class Scope(StrEnum):
    """What a key is good for."""

    RECORD = "record"
    READ = "read"
    ADMIN = "admin"

    def allows(self, wanted: "Scope") -> bool:
        """Whether a key of this scope may do what takes `wanted`; admin may do everything."""
        return self in (wanted, Scope.ADMIN)


class AccessKey(Aggregate):
    """A key to the ledger. Of its secret only a hash is kept; once revoked, it opens nothing again."""

    class AccessKeyCreated(Aggregate.Created):
        """The key began. The hash is that of the secret, keyed with the salt, both in hexadecimal."""

        name: str
        scopes: tuple[Scope, ...]
        livemode: bool
        salt: str
        hash: str
        by: str | None

    class AccessKeyRevoked(Aggregate.Event):
        """The key opens nothing any more."""

        reason: str | None
        by: str | None

        def apply(self, aggregate: "AccessKey") -> None:
            """Remember when, why and on whose word."""
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
    ) -> None:
        self.name = name
        self.scopes = scopes
        self.livemode = livemode
        self.salt = salt
        self.hash = hash
        self.created_by = by
        self.revoked_at: datetime | None = None
        self.revoked_by: str | None = None
        self.reason: str | None = None

    @staticmethod
    def stream(key_id: str) -> str:
        """The id of the stream of the key called `key_id`."""
        return STREAM_PREFIX + key_id

    @property
    def key_id(self) -> str:
        """What the key is called; no secret."""
        return self.id.removeprefix(STREAM_PREFIX)

    @property
    def is_revoked(self) -> bool:
        """Whether the key opens nothing any more."""
        return self.revoked_at is not None

    @classmethod
    def create(
        cls, key_id: str, secret: str, *, salt: str, name: str, scopes: tuple[Scope, ...], livemode: bool,
        by: str | None, at: datetime,
    ) -> "AccessKey":  # fmt: skip
        """Begin a key. `salt` is 32 random bytes in hexadecimal; the secret itself is kept nowhere."""
        return cls._create(
            cls.AccessKeyCreated, id=cls.stream(key_id), timestamp=at, name=name, scopes=scopes, livemode=livemode,
            salt=salt, hash=keyed_hash(salt, secret), by=by,
        )  # fmt: skip

    def has_secret(self, secret: str) -> bool:
        """Whether `secret` is the key's. Takes as long for one that is nearly right as for any other."""
        return hmac.compare_digest(keyed_hash(self.salt, secret), self.hash)

    def revoke(self, *, reason: str | None, by: str | None, at: datetime) -> None:
        """Let the key open nothing any more; it stays revoked as it was at first."""
        if not self.is_revoked:
            self.trigger_event(self.AccessKeyRevoked, timestamp=at, reason=reason, by=by)


def keyed_hash(salt: str, secret: str) -> str:
    """HMAC-SHA256 of a secret, keyed with its salt: what is kept of it. Source: docs/decisions/0011."""
    return hmac.digest(bytes.fromhex(salt), secret.encode(), "sha256").hex()
