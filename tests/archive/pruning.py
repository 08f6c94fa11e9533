"""Ledgers whose history is archived, checkpointed and pruned, and everything that can be asked of one."""

from contextlib import AbstractContextManager, closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from tallybook.application import AcceptancePolicy, Archive, Metering, PruningResult
from tallybook.application.archive.archived_events import connect_archive
from tallybook.application.archive.arrow import pa, parquet
from tallybook.application.archive.columns import SCHEMA, decode_columns, stored_columns
from tallybook.application.archive.ledger_rows import RowPage
from tallybook.application.archive.manifest import Manifest
from tallybook.application.archive.ranges import TreeRange
from tallybook.application.archive.segment_file import HashingFile, table_rows, write_segment
from tallybook.application.checkpoints.leaves import leaf_hashes
from tallybook.application.checkpoints.pruned_headings import headings_digest
from tallybook.application.checkpoints.signing_keys import PrivateKey
from tallybook.application.ledger.ledger import Ledger
from tallybook.application.storage.url import resolve_store
from tallybook.domain.errors import NotCheckpointed
from tallybook.domain.history_pruning import STREAM_PREFIX, HistoryPruning

from ..contract.histories import END, START, query_results, record_history
from ..contract.persistent_stores import PersistentStore
from ..contract.stores import Store
from ..notation import Clock

EVENTS = 60
BOUNDS = START, END
LIFTED = AcceptancePolicy(max_age=None, max_ahead=None, cancel_window=None)


class History:
    """A folder with an archive, checkpoints and a key."""

    def __init__(self, folder: Path) -> None:
        """Use the key in a folder, or create one there."""
        self.archive = folder / "archive"
        self.checkpoints = folder / "usage.checkpoints"
        self.key_file = folder / "checkpoint.key"
        if not self.key_file.exists():
            PrivateKey.generate(self.key_file, "tallybook")
        self.key = str(PrivateKey.load(self.key_file, "tallybook").public_key)

    def archive_all(self, metering: Metering) -> int:
        """Archive and checkpoint all events; return the last position."""
        metering.checkpoints.create(self.checkpoints, key=self.key_file)
        return metering.archive.export(self.archive).last_position

    def prune(
        self, metering: Metering, *, keep: timedelta = timedelta(0), dry_run: bool = False, compact: bool = False
    ) -> PruningResult:
        """Prune what is archived."""
        return metering.archive.prune(
            self.archive, checkpoints=self.checkpoints, key=self.key, keep=keep, dry_run=dry_run, compact=compact
        )


def pruned_positions(store: Store) -> set[int]:
    """Return the positions whose states are not in the ledger, without reading an archive."""
    recorder = store.location.open_recorder()
    try:
        rows = recorder.raw_rows(1, recorder.head(), recorder.head())
        return {row[0] for row in rows if len(row[4]) == 32}
    finally:
        recorder.close()


def forge(archive: Path, position: int) -> None:
    """Change the payload of an event in an archive, with all hashes of the file and its manifest."""
    manifest = archive / "manifest.jsonl"
    (segment,) = Archive.open(archive).segments
    file = archive / segment.file
    rows = table_rows(parquet.read_table(file))
    row = rows[position - 1]
    rows[position - 1] = (*row[:4], row[4].replace(b'"payload":{"', b'"payload":{"forged":"1","'))
    assert rows[position - 1] != row
    page, hashes = RowPage.from_rows(rows), TreeRange()
    hashes.extend(leaf_hashes(rows))
    *stored, state = stored_columns(page)
    with file.open("wb") as forged:
        hashing_file = HashingFile(forged)
        write_segment(hashing_file, iter([pa.table([*stored, *decode_columns(rows), state], schema=SCHEMA)]))
    manifest.write_bytes(Manifest([], TreeRange()).line_after(hashes, hashing_file.size, hashing_file.sha256()))


def forge_pruning(ledger: Ledger, at: datetime) -> None:
    """Append a HistoryPruned with the digest of the present headings, as somebody does who has changed them."""
    (*_, last) = ledger.aggregates(ledger.ledger_recorder.select_by_prefix(STREAM_PREFIX))
    assert isinstance(last, HistoryPruning)
    pruning = HistoryPruning.prune(
        last,
        last.position,
        headings=headings_digest(ledger, last.position),
        archive=last.archive,
        archived_position=last.archived_position,
        root=last.root,
        checkpoint_size=last.checkpoint_size,
        by=None,
        at=at,
    )
    ledger.append(pruning.collect_events())


def query_all(metering: Metering) -> list[object]:
    """Return the results of all queries of a ledger with the meters of the contract, now and as of two points."""
    results = query_results(metering).values()
    return [
        *((totals, summaries, replace(explained, position=0)) for totals, summaries, explained in results),
        *(metering.totals("seats", START, END, as_of=as_of) for as_of in (40, END)),
        metering.periods.list("tokens"),
        [replace(adjustment, position=0) for adjustment in metering.periods.adjustments("tokens")],
    ]


def answers(
    metering: Metering, history: History, identifiers: list[str], bounds: tuple[datetime, datetime], head: int
) -> list[object]:
    """Return the proofs, duplicates, conflicts and history of a ledger, and what verifications say of it."""
    results: list[object] = []
    for identifier in identifiers:
        event = metering.event(identifier)
        meter_event = {"event_name": event.event_name, "identifier": identifier, "timestamp": event.occurred_at}
        duplicate, conflict = metering.record_many(
            [{**meter_event, "payload": event.payload}, {**meter_event, "payload": {**event.payload, "other": "1"}}]
        )
        results += [event, duplicate, str(conflict)]
        try:
            results += [str(proof) for proof in metering.checkpoints.prove_inclusion(identifier, history.checkpoints)]
        except NotCheckpointed as error:  # it, or its cancellation, is later
            results.append(str(error))
    verification = metering.verify()
    assert verification.is_equal
    usage = {table.table: table.digest for table in verification.tables if table.table in ("usage", "totals")}
    after = 0
    while entries := metering.history.list(after=after, until=head, include_usage=True, limit=1_000).entries:
        results += entries
        after = entries[-1].position
    checked = metering.checkpoints.verify(history.checkpoints)
    archive = metering.archive.verify(history.archive, checkpoints=history.checkpoints)
    for meter in metering.meters.list():
        for customer in metering.customers.search():
            results.append(metering.explain(meter.event_name, customer, *bounds, as_of=head))
    return [*results, usage, checked.difference, checked.matching_checkpoints, archive.differences, archive.root]


class PrunableLedger:
    """A ledger with a history, part of which is archived, and the answers before anything was pruned."""

    def __init__(self, store: PersistentStore, folder: Path) -> None:
        self.store = store
        self.clock = Clock(END)
        self.history = History(folder)
        with self.metering() as metering:
            record_history(metering, EVENTS)
            metering.periods.close("tokens", "acme", START, START + timedelta(days=2))
            self.archived = self.history.archive_all(metering)
            self.clock.now += timedelta(days=1)
            metering.record("tokens", {"customer": "acme", "value": "7"}, identifier="late", timestamp=START)
            self.head = metering.catch_up()
            self.identifiers = [f"use-{number:05d}" for number in range(0, EVENTS, EVENTS // 10)]
            self.before = self.answers(metering)

    @property
    def bytes_type(self) -> str:
        """The SQL type of a state."""
        return "BLOB" if self.store.url.startswith("sqlite") else "bytea"

    def metering(self) -> Metering:
        """Open the ledger."""
        return Metering.open(self.store.url, policy=LIFTED, clock=self.clock)

    def opened(self) -> AbstractContextManager[Ledger]:
        """Open the ledger without its commands."""
        return closing(connect_archive(Ledger(resolve_store(self.store.url))))

    def answers(self, metering: Metering) -> list[object]:
        """Return what the ledger answers."""
        return [query_all(metering), *answers(metering, self.history, self.identifiers, BOUNDS, self.head)]
