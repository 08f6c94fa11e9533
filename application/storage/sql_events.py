"""Queries of a ledger's stored events, in SQL common to both stores."""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import msgspec
from eventsourcing.persistence import Notification, StoredEvent

from ...domain.errors import ArchiveUnavailable
from ...projections.models import LedgerEvent, RawPage
from ...projections.page_reader import page_of_events
from ...projections.ports import USAGE_RECORDED
from .ports import ArchivedEvents, LastPruning, PositionedEventRow, RawEventRow
from .pruned_events import (
    LEAF_HASH_BYTES,
    NEVER_PRUNED,
    NoArchivedEvents,
    Row,
    decode_last_pruning,
    has_leaf_hash,
    mark_pruned,
    pruned_hashes,
    restored,
)

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
    """Reads stored events. The placeholder of a statement is a question mark; `{events}` is the table.

    The states of pruned events are read from `archived_events`, by all methods but `raw_rows`, `unpruned_rows` and
    `select_first_rows`.
    """

    archived_events: ArchivedEvents = NoArchivedEvents()
    _last_pruning: LastPruning = NEVER_PRUNED
    """The last one that this process has read, because it has met a pruned event."""

    @abstractmethod
    def select_rows(self, statement: str, params: Sequence[object] = ()) -> list[Any]:
        """Return the rows of a statement as tuples."""

    @abstractmethod
    def select_last_pruning(self) -> bytes | None:
        """Return the state of the last HistoryPruned, or None."""

    @abstractmethod
    def select_first_rows(self, originator_ids: Sequence[str]) -> list[PositionedEventRow]:
        """Return the first row of each of these streams that exist, as it is stored."""

    @abstractmethod
    def select_streams(self, originator_ids: Sequence[str]) -> Sequence[Notification]:
        """Return the events of several streams, by stream and version."""

    # --- pruned events --------------------------------------------------------------------------------

    def last_pruning(self) -> LastPruning:
        """Return the last pruning of the history: its position is 0 if there was none."""
        state = self.select_last_pruning()
        try:
            self._last_pruning = NEVER_PRUNED if state is None else decode_last_pruning(state)
        except msgspec.MsgspecError:  # it was changed: verification finds it
            self._last_pruning = NEVER_PRUNED
        return self._last_pruning

    def restore(self, rows: list[Row]) -> list[Row]:
        """Return rows, which end with topic and state, with the states of pruned events from their archive.

        Raise ArchiveUnavailable, or ArchiveMismatch if the archive has another event. A row that only looks like a
        pruned one, because no pruning covers it, is returned as it is.
        """
        covered = self.covered_hashes(rows)
        if not covered:
            return rows
        pruning = self._last_pruning
        try:
            archived = self.archived_events.read(pruning.archive, covered)
        except ArchiveUnavailable:
            moved = self.last_pruning()
            if moved.archive == pruning.archive:
                raise
            archived = self.archived_events.read(moved.archive, covered)
        return restored(rows, archived)

    def covered_hashes(self, rows: Sequence[Row]) -> dict[int, bytes]:
        """Return the leaf hashes that rows have in place of their states, by position, if a pruning covers them."""
        hashes = pruned_hashes(rows)
        if hashes and max(hashes) > self._last_pruning.position:
            self.last_pruning()
        return {position: leaf for position, leaf in hashes.items() if position <= self._last_pruning.position}

    def restore_stored_events(self, stream: str, stored: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
        """Return the events of a stream, some of which may be pruned, with their states."""
        if not pruned_hashes([(0, event.topic, event.state) for event in stored]):
            return stored
        states = {event.originator_version: event.state for event in self.select_streams([stream])}
        return [
            StoredEvent(event.originator_id, event.originator_version, event.topic, states[event.originator_version])
            for event in stored
        ]

    def mark_pruned_rows(self, rows: Sequence[RawEventRow]) -> Sequence[RawEventRow]:
        """Return raw rows, which say of those with a leaf hash that they were pruned."""
        if not any(map(has_leaf_hash, rows)):
            return rows
        pruning = self.last_pruning()
        return [mark_pruned(row, pruning) for row in rows]

    def unpruned_rows(self, after: int, last: int, limit: int) -> Sequence[PositionedEventRow]:
        """Return up to `limit` rows of recorded usage whose state is in the ledger, after a position, up to `last`."""
        return self.select_rows(
            f"SELECT {EVENT_COLUMNS} FROM {{events}} WHERE position > ? AND position <= ?"
            f" AND topic = '{USAGE_RECORDED}' AND length(state) > {LEAF_HASH_BYTES} ORDER BY position LIMIT ?",
            (after, last, limit),
        )

    def has_pruned_rows(self) -> bool:
        """Return whether states of recorded usage were replaced by their leaf hashes: not in a copy of the ledger."""
        pruned = (
            f"SELECT 1 FROM {{events}} WHERE topic = '{USAGE_RECORDED}' AND length(state) = {LEAF_HASH_BYTES} LIMIT 1"
        )
        return self.last_pruning().position > 0 and bool(self.select_rows(pruned))

    def read_page_of_rows(self, after: int, limit: int) -> RawPage | None:
        """Return the page after a position if it is known to have pruned events, which no database can assemble."""
        if after >= self._last_pruning.position:
            return None
        return page_of_events(self.restore(self.select_rows(SELECT_PAGE, (after, limit))), after)

    # --- reading --------------------------------------------------------------------------------------

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
        return self.restore(self.select_rows(SELECT_STORED_ROWS, (first, last)))

    def read_page(self, after: int, limit: int) -> Sequence[LedgerEvent]:
        """Return up to `limit` events after a position, in order."""
        return self.restore(self.select_rows(SELECT_PAGE, (after, limit)))

    def select_stream_positions(self, originator_id: str) -> Sequence[int]:
        """Return the positions of a stream's events, in order."""
        rows = self.select_rows(
            "SELECT position FROM {events} WHERE originator_id = ? ORDER BY position", (originator_id,)
        )
        return [position for (position,) in rows]

    def select_first_events(self, originator_ids: Sequence[str]) -> Sequence[Notification]:
        """Return the first event of each of these streams that exist."""
        return _notifications(self.restore(self.select_first_rows(originator_ids)))

    def select_stream(self, stream: str) -> Sequence[Notification]:
        """Return the events of one stream, by version."""
        return self.notifications("WHERE originator_id = ? ORDER BY originator_version", (stream,))

    def select_prefix_page(
        self, prefix: str, after: tuple[str, int], limit: int, after_position: int = 0
    ) -> Sequence[Notification]:
        """Return up to `limit` events of streams with this prefix after a stream and version, by stream and version.

        Only those after a position are read. SQLite finds them in the index of streams alone.
        """
        return self.notifications(
            "WHERE (originator_id, originator_version) > (?, ?) AND originator_id < ? AND position + 0 > ?"
            " ORDER BY originator_id, originator_version LIMIT ?",
            (*after, _prefix_upper_bound(prefix), after_position, limit),
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
        return _notifications(self.positioned_rows(clause, params, source))

    def positioned_rows(
        self, clause: str, params: Sequence[object], source: str = "{events}"
    ) -> list[PositionedEventRow]:
        """Return the rows of a table that a clause selects."""
        return self.restore(self.select_rows(f"SELECT {EVENT_COLUMNS} FROM {source} {clause}", params))


def _notifications(rows: Sequence[PositionedEventRow]) -> list[Notification]:
    return [Notification(stream, version, topic, state, position) for position, stream, version, topic, state in rows]


def _prefix_upper_bound(prefix: str) -> str:
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
