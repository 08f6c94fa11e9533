"""What the application answers about access keys; the key itself is in one answer only."""

from dataclasses import dataclass, field
from datetime import datetime

from ..domain.access_key import AccessKey, Scope
from .access_key_text import hint_of


@dataclass(frozen=True, slots=True)
class AccessKeyView:
    """An access key as it is now, without its secret. Times are in UTC."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    livemode: bool
    created_at: datetime
    created_by: str | None
    revoked_at: datetime | None
    revoked_by: str | None
    reason: str | None

    @property
    def hint(self) -> str:
        """How the key begins, by which its holder knows it: prefix and id."""
        return hint_of(self.id, self.scopes, livemode=self.livemode)

    def allows(self, scope: Scope) -> bool:
        """Whether the key's scopes allow what takes `scope`."""
        return any(one.allows(scope) for one in self.scopes)

    @classmethod
    def of(cls, key: AccessKey) -> "AccessKeyView":
        """The view of a key."""
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
        )


@dataclass(frozen=True, slots=True)
class NewAccessKey:
    """A key that has just been created. `key` is told this one time, and is left out where this is printed."""

    key: str = field(repr=False)
    view: AccessKeyView
