"""Views of access keys. Only NewAccessKey, the result of creating one, has the key itself."""

from dataclasses import dataclass, field
from datetime import datetime

from ...domain.access_key import AccessKey, Scope
from .key_format import key_hint


@dataclass(frozen=True, slots=True)
class AccessKeyView:
    """An access key as it is now, without its secret. Times are in UTC.

    If it has `customers`, it may only read their data.
    """

    id: str
    name: str
    scopes: tuple[Scope, ...]
    livemode: bool
    created_at: datetime
    created_by: str | None
    revoked_at: datetime | None
    revoked_by: str | None
    reason: str | None
    customers: tuple[str, ...] = ()

    @property
    def hint(self) -> str:
        """The start of the key, by which its owner recognizes it: prefix and id."""
        return key_hint(self.id, self.scopes, livemode=self.livemode)

    def allows(self, scope: Scope) -> bool:
        """Return whether the key allows operations that require `scope`."""
        return any(own_scope.allows(scope) for own_scope in self.scopes)

    @classmethod
    def from_aggregate(cls, key: AccessKey) -> "AccessKeyView":
        """Return the view of a key."""
        return cls(
            key.key_id,
            key.name,
            key.scopes,
            key.livemode,
            key.created_on,
            key.created_by,
            key.revoked_at,
            key.revoked_by,
            key.reason,
            key.customers,
        )


@dataclass(frozen=True, slots=True)
class NewAccessKey:
    """A new access key. `key` is shown this one time, and is not part of the repr."""

    key: str = field(repr=False)
    view: AccessKeyView
