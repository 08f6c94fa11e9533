"""Queries of a ledger's stored events, in SQL common to both stores."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from eventsourcing.persistence import Notification

from ...projections.ports import USAGE_RECORDED
from .ports import PositionedEventRow

EVENT_COLUMNS = "position, originator_id, originator_version, topic, state"
SELECT_HEAD = "SELECT coalesce(max(position), 0) FROM {events}"
SELECT_STORED_ROWS = f"SELECT {EVENT_COLUMNS} FROM {{events}} WHERE position BETWEEN ? AND ? ORDER BY position"
SELECT_PAGE = "SELECT position, topic, state FROM {events} WHERE position > ? ORDER BY position LIMIT ?"


_CREATED_TRIGGER = re.compile(r"CREATE TRIGGER (\w+)")


def absent_triggers(statements: Sequence[str], found: Sequence[tuple[str]]) -> list[str]:
    """Return the triggers that the statements of a schema create, and that were not found."""
    names = {name for (name,) in found}
    return [name for name in _CREATED_TRIGGER.findall(" ".join(statements)) if name not in names]


class SqlEventReader(ABC):
    """Reads stored events. The placeholder of a statement is a question mark; `{events}` is the table."""

    @abstractmethod
    def select_rows(self, statement: str, params: Sequence[object] = ()) -> list[Any]:
        """Return the rows of a statement as tuples."""

    def head(self) -> int:
        """Return the position of the newest event; 0 in an empty ledger."""
        return self.select_rows(SELECT_HEAD)[0][0]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Return stored events by position, as the library's recorders do."""
        first = 1 if start is None else start + (0 if inclusive_of_start else 1)
        topic_condition = f"AND topic IN ({','.join('?' * len(topics))})" if topics else ""
        return self.notifications(
            f"WHERE position >= ? AND position <= coalesce(?, position) {topic_condition} ORDER BY position LIMIT ?",
            (first, stop, *topics, limit),
        )

    def select_changes(self, after: int, last: int, limit: int, *, include_usage: bool) -> Sequence[Notification]:
        """Return up to `limit` events after a position, up to `last`, in order; without recorded usage if not set."""
        condition = "" if include_usage else f"AND topic <> '{USAGE_RECORDED}'"
        return self.notifications(
            f"WHERE position > ? AND position <= ? {condition} ORDER BY position LIMIT ?", (after, last, limit)
        )

    def stored_rows(self, first: int, last: int) -> Sequence[PositionedEventRow]:
        """Return the rows at the positions from `first` to `last`, inclusive, in order."""
        return self.select_rows(SELECT_STORED_ROWS, (first, last))

    def select_stream_positions(self, originator_id: str) -> Sequence[int]:
        """Return the positions of a stream's events, in order."""
        rows = self.select_rows(
            "SELECT position FROM {events} WHERE originator_id = ? ORDER BY position", (originator_id,)
        )
        return [position for (position,) in rows]

    def select_stream(self, stream: str) -> Sequence[Notification]:
        """Return the events of one stream, by version."""
        return self.notifications("WHERE originator_id = ? ORDER BY originator_version", (stream,))

    def select_prefix_page(self, prefix: str, after: tuple[str, int], limit: int) -> Sequence[Notification]:
        """Return up to `limit` events of streams with this prefix after a stream and version, by stream and version."""
        return self.notifications(
            "WHERE (originator_id, originator_version) > (?, ?) AND originator_id < ?"
            " ORDER BY originator_id, originator_version LIMIT ?",
            (*after, _prefix_upper_bound(prefix), limit),
        )

    def select_by_prefix(self, prefix: str) -> Sequence[Notification]:
        """Return the events of all streams whose ids begin with `prefix`, by stream and version."""
        return self.notifications(
            "WHERE originator_id >= ? AND originator_id < ? ORDER BY originator_id, originator_version",
            (prefix, _prefix_upper_bound(prefix)),
        )

    def select_by_prefix_after(self, prefix: str, after: int, limit: int) -> Sequence[Notification]:
        """Return up to `limit` events after a position from streams whose ids begin with `prefix`, by position.

        `position + 0` keeps the database from scanning the index of positions: it reads only these streams.
        """
        return self.notifications(
            "WHERE originator_id >= ? AND originator_id < ? AND position + 0 > ? ORDER BY position + 0 LIMIT ?",
            (prefix, _prefix_upper_bound(prefix), after, limit),
        )

    def notifications(self, clause: str, params: Sequence[object], source: str = "{events}") -> list[Notification]:
        """Return the events of a table that a clause selects, as the library's notifications."""
        return [
            Notification(stream, version, topic, state, position)
            for position, stream, version, topic, state in self.positioned_rows(clause, params, source)
        ]

    def positioned_rows(
        self, clause: str, params: Sequence[object], source: str = "{events}"
    ) -> list[PositionedEventRow]:
        """Return the rows of a table that a clause selects."""
        return self.select_rows(f"SELECT {EVENT_COLUMNS} FROM {source} {clause}", params)


def _prefix_upper_bound(prefix: str) -> str:
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
