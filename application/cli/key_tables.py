"""Access keys as people read them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .terminal import say, table
from .wording import because, when

if TYPE_CHECKING:
    from datetime import datetime

    from ..access_views import AccessKeyView, NewAccessKey


@dataclass(frozen=True)
class CreatedKey:
    """A key that has just been created, on one level as its JSON is."""

    key: str = field(repr=False)
    id: str
    hint: str
    name: str
    scopes: tuple[str, ...]
    livemode: bool
    created_at: "datetime"
    created_by: str | None

    @classmethod
    def of(cls, made: "NewAccessKey") -> "CreatedKey":
        """What is told of a new key."""
        view = made.view
        return cls(
            made.key, view.id, view.hint, view.name, view.scopes, view.livemode, view.created_at, view.created_by
        )


def show_created(made: CreatedKey) -> None:
    """The key on a line of its own, and what is known of it."""
    say(made.key)
    say("Keep it now: this is the only time that it is shown. The ledger has a hash of it, and can't tell it again.")
    lines = {
        "id": made.id,
        "name": made.name or "none",
        "scopes": ", ".join(made.scopes),
        "mode": _mode(livemode=made.livemode),
        "created": when(made.created_at) + because(None, made.created_by),
    }
    for name, value in lines.items():
        say(f"  {name:<16}{value}")


def show_keys(keys: Sequence["AccessKeyView"]) -> None:
    """One line for each key."""
    if not keys:
        say("No access keys yet; 'tallybook key create' creates one.")
        return
    rows = [
        (one.id, one.name, ", ".join(one.scopes), _mode(livemode=one.livemode),
         when(one.created_at.replace(microsecond=0)) + because(None, one.created_by), _status(one))
        for one in keys
    ]  # fmt: skip
    table(("id", "name", "scopes", "mode", "created", "status"), rows)


def show_revoked(key: "AccessKeyView") -> None:
    """How a key came to open nothing any more."""
    assert key.revoked_at is not None
    say(f"revoked: {key.hint} opens nothing since {when(key.revoked_at)}{because(key.reason, key.revoked_by)}")


def _mode(*, livemode: bool) -> str:
    return "live" if livemode else "test"


def _status(key: "AccessKeyView") -> str:
    if key.revoked_at is None:
        return "active"
    return f"revoked {when(key.revoked_at.replace(microsecond=0))}{because(key.reason, key.revoked_by)}"
