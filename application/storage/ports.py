"""Interfaces of a store: the events of a ledger in one total order, and its read models in generations."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from eventsourcing.persistence import Notification

from ...domain.errors import DatabasePermissionDenied, LedgerUnavailable
from ...projections.models import Generation, PinnedRules
from ...projections.ports import BulkLedgerReader, LedgerReader, ReadModelStore, ResettableReadModelStore
from ..results import Backup
from .key_value import EntriesForPositions, EntryKey, KeyValueEntry, KeyValueStore

EventRow = tuple[str, int, str, bytes]
"""Stream, version, topic and state of an event to store."""
PositionedEventRow = tuple[int, str, int, str, bytes]
"""Position, stream, version, topic and state of a stored event."""
RawEventRow = tuple[int, bytes, bytes, bytes, bytes, str]
"""Position; stream, version, topic and state as bytes; and the storage types of these four columns."""

LEDGER_CLOSED = "The ledger was closed; open it again."
"""The message of a call on a closed ledger."""
REBUILD_HINT = (
    "Delete their file (.read-models), or on PostgreSQL drop their schema (…_read_models): they are projected again."
)
"""What to do about corrupted read models."""


class TransientError(LedgerUnavailable):
    """An error that a retry may resolve: a lost connection or a conflict with another transaction."""


class RowRejected(DatabasePermissionDenied):
    """The database rejects a row, by a policy or a trigger, such as an event of an hour ago. It may accept others."""


class ReadModelsMissing(DatabasePermissionDenied):
    """The read models do not exist, and this role may not create them."""


class CorruptedReadModel(LedgerUnavailable):
    """A row of the read models cannot be decoded."""


class ConnectTimeout(TransientError):
    """No connection to the server was possible within the timeout."""


class LockTimeout(LedgerUnavailable):
    """Another client held a lock for longer than the timeout."""


class ConcurrentStreamUpdate(Exception):
    """Another client appended to a stream that a decision was based on."""


@dataclass(frozen=True, slots=True)
class LastPruning:
    """The last HistoryPruned: the states of usage up to `position` may be in `archive`, a URL, and nowhere else.

    `headings` is the digest of the streams, versions and topics of the events up to that position.
    """

    position: int = 0
    archive: str = ""
    headings: str = ""


class ArchivedEvents(Protocol):
    """Reads events from archives."""

    def read(self, archive: str, leaf_hashes: Mapping[int, bytes]) -> Mapping[int, PositionedEventRow]:
        """Return the row at each position, which has this leaf hash. Raise ArchiveUnavailable or ArchiveMismatch."""
        ...

    def close(self) -> None:
        """Close the files that are open for the next events."""
        ...


class EventAppender(LedgerReader, Protocol):
    """The ledger inside a transaction that excludes other writers."""

    def insert_rows(
        self, rows: Sequence[EventRow], expected_versions: Mapping[str, int] | None = None
    ) -> Sequence[int]:
        """Store rows and return their positions. Raise ConcurrentStreamUpdate as `EventRecorder.insert_rows` does."""
        ...

    def insert_entries(self, entries: Sequence[KeyValueEntry]) -> None:
        """Store key-value entries, whose table must exist. Raise EntryExists if one exists."""
        ...

    def stored_rows(self, first: int, last: int) -> Sequence[PositionedEventRow]:
        """Return the rows at the positions from `first` to `last`, inclusive, in order."""
        ...

    def allow_long_transaction(self) -> None:
        """Let this transaction take any time. Stores limit it otherwise, because others wait for it."""
        ...


class EventRecorder(BulkLedgerReader, Protocol):
    """The stored events of a ledger. An implementation is also a recorder of the eventsourcing library.

    Their times of recording never decrease: a row that is up to `max_clock_delay` behind the last one gets its time,
    and one that is further behind raises ClockBehind. None is any delay.
    """

    max_clock_delay: timedelta | None
    clock: Callable[[], datetime] | None
    """What says the present time when rows are stored; None if the times of the rows do."""
    archived_events: ArchivedEvents
    """What the states of pruned events are read from. All methods return them but `raw_rows`, `unpruned_rows` and
    `select_first_rows`."""

    def insert_rows(
        self,
        rows: Sequence[EventRow],
        expected_versions: Mapping[str, int] | None = None,
        attach: EntriesForPositions | None = None,
    ) -> Sequence[int]:
        """Store rows in one transaction and return their positions.

        Given the positions, `attach` returns the key-value entries to insert in the same transaction; it must not use
        the ledger. Raise the library's IntegrityError if a stream has an event of that version, ConcurrentStreamUpdate
        if a stream has grown past its version in `expected_versions`, and EntryExists if one of the entries exists.
        Nothing is stored then. Without rows, only the entries are stored, and no versions are checked.
        """
        ...

    def key_value_store(self) -> KeyValueStore:
        """Return the key-value store. Its table is created if it does not exist. Raise DatabasePermissionDenied."""
        ...

    def key_value_entries(self, after: EntryKey | None, limit: int) -> Sequence[KeyValueEntry]:
        """Return up to `limit` key-value entries of all kinds after a kind and key, in this order.

        There are none if their table does not exist.
        """
        ...

    def exclusive(self) -> AbstractContextManager[EventAppender]:
        """Read and append while no other client can append. The rows are committed at the end."""
        ...

    def raw_rows(self, first: int, last: int, limit: int) -> Sequence[RawEventRow]:
        """Return up to `limit` stored rows at the positions from `first` to `last`, inclusive, in order."""
        ...

    def stored_rows(self, first: int, last: int) -> Sequence[PositionedEventRow]:
        """Return the rows at the positions from `first` to `last`, inclusive, in order."""
        ...

    def last_pruning(self) -> LastPruning:
        """Return the last pruning of the history: its position is 0 if there was none."""
        ...

    def has_pruned_rows(self) -> bool:
        """Return whether states of recorded usage were replaced by their leaf hashes."""
        ...

    def unpruned_rows(self, after: int, last: int, limit: int) -> Sequence[PositionedEventRow]:
        """Return up to `limit` rows of recorded usage whose state is in the ledger, after a position, up to `last`."""
        ...

    def replace_states(self, leaf_hashes: Sequence[tuple[int, bytes]]) -> None:
        """Replace the states at these positions by their leaf hashes, in one transaction.

        The store accepts that for usage up to the position of the last pruning. States that were replaced stay.
        """
        ...

    def size_bytes(self) -> int:
        """Return the space that the ledger takes, with what is free in it."""
        ...

    def compact(self) -> None:
        """Return free space to the operating system. Recording waits meanwhile."""
        ...

    def select_changes(self, after: int, last: int, limit: int, *, include_usage: bool) -> Sequence[Notification]:
        """Return up to `limit` events after a position, up to `last`, in order; without recorded usage if not set."""
        ...

    def select_stream_positions(self, originator_id: str) -> Sequence[int]:
        """Return the positions of a stream's events, in order."""
        ...

    def select_first_events(self, originator_ids: Sequence[str]) -> Sequence[Notification]:
        """Return the first event of each of these streams that exist."""
        ...

    def select_first_rows(self, originator_ids: Sequence[str]) -> list[PositionedEventRow]:
        """Return the first row of each of these streams that exist, as it is stored."""
        ...

    def covered_hashes(self, rows: Sequence[PositionedEventRow]) -> dict[int, bytes]:
        """Return the leaf hashes that pruned rows have in place of their states, by position."""
        ...

    def restore(self, rows: list[PositionedEventRow]) -> list[PositionedEventRow]:
        """Return rows with the states of pruned events from their archive. Raise as `ArchivedEvents.read` does."""
        ...

    def select_at(self, positions: Sequence[int]) -> Sequence[PositionedEventRow]:
        """Return the events at these positions, in any order."""
        ...

    def select_stream(self, stream: str) -> Sequence[Notification]:
        """Return the events of one stream, by version."""
        ...

    def select_streams(self, originator_ids: Sequence[str]) -> Sequence[Notification]:
        """Return the events of several streams, by stream and version."""
        ...

    def select_prefix_page(
        self, prefix: str, after: tuple[str, int], limit: int, after_position: int = 0
    ) -> Sequence[Notification]:
        """Return up to `limit` events of streams whose ids begin with `prefix`, by stream and version.

        They are those after the stream and version `after`, and after a position of the ledger.
        """
        ...

    def select_by_prefix(self, prefix: str) -> Sequence[Notification]:
        """Return the events of all streams whose ids begin with `prefix`, by stream and version."""
        ...

    def select_by_prefix_after(self, prefix: str, after: int, limit: int) -> Sequence[Notification]:
        """Return up to `limit` events after a position from streams whose ids begin with `prefix`, by position.

        The cost depends only on the number of events in these streams.
        """
        ...

    def append_listener(self) -> AbstractContextManager[Callable[[float], None]]:
        """Yield a function that waits until new events were appended, or for a number of seconds."""
        ...

    def backup(self, file: Path, *, overwrite: bool, progress: Callable[[int, int], object] | None) -> Backup:
        """Write the present state of the ledger to a file, while others record. Raise BackupNotSupported."""
        ...

    def missing_triggers(self) -> Sequence[str]:
        """Return the names of the triggers that protect stored events and are missing or disabled."""
        ...

    def close(self) -> None:
        """Close the ledger."""
        ...


class GenerationStore(ResettableReadModelStore, Protocol):
    """The read models of one ledger, in generations, one of which is live and answers queries."""

    def generations(self) -> list[Generation]:
        """Return all generations in the order of their creation."""
        ...

    def create(self, pinned: PinnedRules) -> Generation:
        """Create an empty generation in the state `building`."""
        ...

    def read_models(self, generation: int) -> ReadModelStore:
        """Return the read models of one generation. Their sessions raise GenerationNotFound once it is dropped."""
        ...

    def mark_ready(self, generation: int, revisions: Mapping[str, int]) -> None:
        """Mark a generation as completely built, at these revisions of the rules in force."""
        ...

    def make_live(self, generation: int, revisions: Mapping[str, int]) -> None:
        """Make a generation live and retire the live one, in one transaction.

        The retired generation is stored with these revisions of the rules in force.
        """
        ...

    def drop(self, generation: int, *, is_awaited: bool = True) -> None:
        """Drop a generation that is not live.

        If it is not awaited, LedgerUnavailable is raised soon if the generation is in use.
        """
        ...

    def generation_lock(self, activity: str, *, timeout_seconds: float = ...) -> AbstractContextManager[None]:
        """Hold the lock to build, compare or promote generations. Raise RebuildInProgress, which names the owner.

        The call waits a little, because a query holds the lock for moments while it follows changed rules.
        """
        ...

    def temporary(self, pinned: PinnedRules) -> AbstractContextManager[ReadModelStore]:
        """Create empty read models that are deleted at the end."""
        ...

    def close(self) -> None:
        """Close the read models."""
        ...


class Store(Protocol):
    """A ledger and its read models, which can be opened any number of times."""

    @property
    def location(self) -> str:
        """Return the location of the ledger, for messages."""
        ...

    @property
    def is_persistent(self) -> bool:
        """Return whether the ledger exists after all processes have closed it."""
        ...

    def exists(self) -> bool:
        """Return whether the ledger exists."""
        ...

    def delete_read_models(self) -> None:
        """Delete the read models, which no process has open. They are projected again when they are needed."""
        ...

    def open_recorder(self) -> EventRecorder:
        """Open the ledger's events. The ledger is created if it does not exist."""
        ...

    def open_read_models(self, current_rules: Callable[[], PinnedRules]) -> GenerationStore:
        """Open the read models.

        `current_rules` returns the rules of the meters whose rules have changed; the first generation is projected
        under them.
        """
        ...
