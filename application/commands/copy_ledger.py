"""Copies a ledger to an empty one, also of another store, in one transaction that ends with a comparison."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from ...domain.errors import CopyNotSupported, InvalidLedgerUrl, LedgerCorrupted, LedgerNotEmpty
from ..archive.ledger_rows import ledger_pages, paused_garbage_collection
from ..checkpoints.checkpoint import to_base64
from ..checkpoints.leaves import leaf_hashes
from ..checkpoints.merkle import Tree
from ..results import LedgerCopy
from ..storage.key_value import EntryKey, KeyValueEntry
from ..storage.ports import EventAppender, EventRecorder, PositionedEventRow, Store
from ..storage.recorded_time import recorded_at_of

CopyProgress = Callable[[int, int], object]
_PAGE_SIZE = 10_000


def copy_ledger(source: EventRecorder, store: Store, progress: CopyProgress | None = None) -> LedgerCopy:
    """Copy all events and key-value entries of `source` to an empty ledger of a store.

    Key-value entries are read first: one that refers to an event must not be copied without it. Raises LedgerNotEmpty,
    or LedgerCorrupted if an event of the source is not as recorded, or one of the copy is not that of the source.
    """
    if not store.is_persistent:
        raise InvalidLedgerUrl("A copy in memory would be lost; name a file or a database.", field="url")
    with closing(store.open_recorder()) as target:
        not_empty = LedgerNotEmpty(
            f"The ledger at {store.location} has events or key-value entries. Copy to a new one.", field="url"
        )
        if target.key_value_entries(None, 1):
            raise not_empty
        has_entries = bool(source.key_value_entries(None, 1))
        if has_entries:
            target.key_value_store()  # creates the table
        with target.exclusive() as appender:
            appender.allow_long_transaction()
            if appender.head():
                raise not_empty
            entry_count = _copy_entries(source, appender) if has_entries else 0
            head = source.head()
            root = _copy_events(source, appender, head, _steps(progress, head))
        return LedgerCopy(store.location, head, entry_count, to_base64(root), source.head() - head)


def _steps(progress: CopyProgress | None, head: int) -> Callable[[int], None]:
    """Return a function that reports how many events of `2 * head` were copied and compared."""
    done = 0

    def advance(events: int) -> None:
        nonlocal done
        done += events
        if progress is not None:
            progress(done, 2 * head)

    return advance


def _copy_entries(source: EventRecorder, target: EventAppender) -> int:
    count, after = 0, None
    while entries := source.key_value_entries(after, _PAGE_SIZE):
        target.insert_entries(entries)
        count, after = count + len(entries), _key(entries[-1])
    return count


def _key(entry: KeyValueEntry) -> EntryKey:
    return entry.kind, entry.key


def _copy_events(source: EventRecorder, target: EventAppender, head: int, advance: Callable[[int], None]) -> bytes:
    """Copy the events up to `head`, and return the root of their Merkle tree, which both ledgers have."""
    source_tree, last_time = Tree(), b""
    for page in ledger_pages(source, 1, head):
        with paused_garbage_collection():
            last_time = _require_times_in_order(page.rows, last_time)
            source_tree.extend(leaf_hashes(page.rows))
            target.insert_rows([row[1:] for row in page.rows])
        advance(len(page.rows))
    target_tree = Tree()
    for rows in _pages(target, head):
        with paused_garbage_collection():
            target_tree.extend(leaf_hashes(rows))
        advance(len(rows))
    if target.head() != head or source_tree.root() != target_tree.root():
        raise LedgerCorrupted(
            "The copied events are not those of the ledger, so that nothing was copied: the database changed them, "
            "perhaps by a trigger, or the disk is failing.",
            field="url",
        )
    return source_tree.root()


def _require_times_in_order(rows: Sequence[PositionedEventRow], last_time: bytes) -> bytes:
    """Return the time of recording of the last row. Raise CopyNotSupported if the times decrease."""
    for position, _, _, _, state in rows:
        time = recorded_at_of(state) or last_time
        if time < last_time:
            raise CopyNotSupported(
                f"The event at position {position} was recorded at {time.decode()}Z, and the one before it at "
                f"{last_time.decode()}Z. Earlier versions stored times that decrease; a new ledger accepts none, so "
                "this one can't be copied. Back it up instead, and go on with it.",
                field="url",
            )
        last_time = time
    return last_time


def _pages(ledger: EventAppender, head: int) -> Iterator[Sequence[PositionedEventRow]]:
    for first in range(1, head + 1, _PAGE_SIZE):
        yield ledger.stored_rows(first, min(first + _PAGE_SIZE - 1, head))
