"""The history of a ledger: each event with who caused it, when, how and why."""

from dataclasses import dataclass, field
from datetime import datetime

from ..domain.authorship import HTTP, REQUEST_PREFIX


@dataclass(frozen=True, slots=True)
class Authorship:
    """Who caused an event, and how. All fields are None for an event that was stored without them.

    `via` is `library`, `command_line`, `http`, `import` or `outbox`. `request_id` is that of the HTTP request,
    `system_user` the user of the operating system that a process with the ledger embedded ran as, and `import_run` the
    import that a meter event was recorded by. `on_behalf_of` is the name that the author stated for somebody else.
    If the author proposed the change, `approved_by` is who approved it and `proposal_id` names the proposal.
    """

    by: str | None = None
    via: str | None = None
    request_id: str | None = None
    system_user: str | None = None
    import_run: str | None = None
    on_behalf_of: str | None = None
    approved_by: str | None = None
    proposal_id: str | None = None

    @classmethod
    def of(cls, by: str | None, via: str | None, on_behalf_of: str | None) -> "Authorship":
        """Return the authorship that the fields of a stored event state."""
        if via is not None and via.startswith(REQUEST_PREFIX):
            return cls(by, HTTP, request_id=via, on_behalf_of=on_behalf_of)
        interface, _, user = (via or "").partition(":")
        return cls(by, interface or None, system_user=user or None, on_behalf_of=on_behalf_of)

    def names(self, author: str) -> bool:
        """Return whether the author is this one, or acted on behalf of it."""
        return author in (self.by, self.on_behalf_of)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One event of the ledger. `event` is its topic, such as RulesChanged, and `stream` is what it belongs to.

    `accepted_under` has the limits of the acceptance policy that the event exceeds by default, as they were set: None
    is no limit, and a duration is ISO 8601 text. `details` are the other fields of the event as they are stored.
    `changed` has the old and the new value of each rule that a RulesChanged differs in from the revision before it.
    """

    position: int
    recorded_at: datetime
    event: str
    stream: str
    author: Authorship
    reason: str | None = None
    accepted_under: dict[str, str | None] = field(default_factory=dict[str, str | None])
    details: dict[str, object] = field(default_factory=dict[str, object])
    changed: dict[str, tuple[object, object]] = field(default_factory=dict[str, tuple[object, object]])


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Entries in the order of their positions. With `has_more`, continue after the position `next_after`."""

    entries: tuple[HistoryEntry, ...]
    has_more: bool
    next_after: int
