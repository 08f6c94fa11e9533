"""A copy of a ledger in either store is the same ledger: positions, digests, checkpoints, keys and entries."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from tallybook.application import CopyNotSupported, InvalidLedgerUrl, LedgerCorrupted, LedgerNotEmpty, Metering
from tallybook.application.ledger.ledger import Ledger
from tallybook.application.storage.key_value import KeyValueEntry
from tallybook.application.storage.ports import EventRow
from tallybook.application.storage.sqlite.event_recorder import SQLiteEventAppender

from ..cli.command_line import CommandLine
from ..postgres import Database
from .histories import START, query_results, record_history
from .persistent_stores import PersistentStore, PostgresSchema, SQLiteFile, decreasing_times_allowed

ENTRIES = [KeyValueEntry("idempotency", f"key {number}", number, bytes([number])) for number in range(5)]


@pytest.fixture(params=["to sqlite", "to postgresql"])
def target(request: pytest.FixtureRequest, tmp_path: Path, postgres: Database) -> PersistentStore:
    """Return an empty location of each store."""
    if request.param == "to sqlite":
        return SQLiteFile.in_file(tmp_path / "copy.db")
    return PostgresSchema.create(postgres)


def record(metering: Metering) -> None:
    """Record usage with cancellations, close a period, and store entries."""
    record_history(metering, 60)
    metering.periods.close("tokens", "acme", START, START + timedelta(days=2))
    metering.key_value_store().apply(insert=ENTRIES)


def rows(ledger: Ledger) -> Sequence[tuple[object, ...]]:
    return ledger.stored_rows(1, ledger.head() + 1)


def test_a_copy_is_the_same_ledger(persistent_store: PersistentStore, target: PersistentStore, tmp_path: Path) -> None:
    """Bytes, positions, digests of the read models, checkpoints, access keys and entries are equal."""
    checkpoints, steps = tmp_path / "usage.checkpoints", list[tuple[int, int]]()
    with persistent_store.metering() as metering:
        record(metering)
        key = metering.access_keys.create(["read"], "billing").key
        checkpoint = metering.checkpoints.create(checkpoints)
        copied = metering.copy(target.url, progress=lambda done, total: steps.append((done, total)))
        expected, digests = query_results(metering), metering.verify().tables
        periods = metering.periods.list("tokens")
    assert (copied.root, copied.position, copied.later_events) == (checkpoint.root, checkpoint.size, 0)
    assert copied.key_value_entries == len(ENTRIES)
    assert copied.location == target.location.location
    assert steps[-1] == (2 * copied.position, 2 * copied.position)
    with target.metering() as metering:
        assert query_results(metering) == expected
        assert metering.verify().tables == digests
        assert metering.verify().is_equal
        assert metering.periods.list("tokens") == periods
        assert metering.checkpoints.verify(checkpoints).difference is None
        assert metering.access_keys.authenticate(key) is not None
        assert metering.key_value_store().scan("idempotency", limit=10) == ENTRIES
        receipt = metering.record("tokens", {"customer": "acme", "value": "1"}, identifier="new")
        assert receipt.position == copied.position + 1
    with persistent_store.components() as (source, _), target.components() as (copy, _):
        assert rows(copy)[:-1] == rows(source)


def test_only_an_empty_ledger_is_copied_to(file_store: SQLiteFile, target: PersistentStore) -> None:
    """An event or an entry there would get lost or be in the way. The ledger itself isn't empty either."""
    with target.metering() as metering:
        metering.key_value_store().apply(insert=ENTRIES[:1])
    with file_store.metering() as metering:
        record(metering)
        with pytest.raises(LedgerNotEmpty, match="has events or key-value entries"):
            metering.copy(target.url)
        with target.metering() as other:
            other.key_value_store().apply(delete=[ENTRIES[0][:2]])
            other.meters.configure("tokens", customer_key="customer")
        for url in (target.url, file_store.url):
            with pytest.raises(LedgerNotEmpty):
                metering.copy(url)
    with target.components() as (ledger, _):
        assert ledger.head() == 1


def test_an_interrupted_copy_stores_nothing(file_store: SQLiteFile, target: PersistentStore) -> None:
    """At each of its steps. The next copy is complete."""

    def interrupt_at(step: int) -> None:
        count = 0

        def progress(_done: int, _total: int) -> None:
            nonlocal count
            count += 1
            if count == step:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            metering.copy(target.url, progress=progress)
        with target.components() as (ledger, _):
            assert ledger.head() == 0
            assert ledger.key_value_store().scan("idempotency", limit=10) == []

    with file_store.metering() as metering:
        record(metering)
        for step in (1, 2):
            interrupt_at(step)
        assert metering.copy(target.url).position == metering.catch_up()


def test_a_copy_that_the_database_changes_is_rolled_back(
    file_store: SQLiteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stored byte is compared before the commit."""
    insert_rows = SQLiteEventAppender.insert_rows

    def insert_changed(appender: SQLiteEventAppender, rows: Sequence[EventRow]) -> Sequence[int]:
        return insert_rows(appender, [*rows[:-1], (*rows[-1][:3], rows[-1][3] + b" ")])

    monkeypatch.setattr(SQLiteEventAppender, "insert_rows", insert_changed)
    target = SQLiteFile.in_file(tmp_path / "copy.db")
    with file_store.metering() as metering:
        record(metering)
        with pytest.raises(LedgerCorrupted, match="nothing was copied"):
            metering.copy(target.url)
    with target.components() as (ledger, _):
        assert ledger.head() == 0


def test_a_corrupted_ledger_is_not_copied(file_store: SQLiteFile, tmp_path: Path) -> None:
    """The position that is missing is named."""
    with file_store.metering() as metering:
        record(metering)
        file_store.corrupt_ledger("DELETE FROM stored_events WHERE position = 7")
        with pytest.raises(LedgerCorrupted, match="position 7 can't be read: it is missing"):
            metering.copy(f"sqlite:///{tmp_path / 'copy.db'}")
        with pytest.raises(InvalidLedgerUrl, match="in memory"):
            metering.copy("sqlite://")


def test_events_recorded_meanwhile_are_counted(file_store: SQLiteFile, tmp_path: Path) -> None:
    """They aren't in the copy, which is a state that the ledger had."""
    with file_store.metering() as metering:
        record(metering)
        head = metering.catch_up()

        def record_one(done: int, _total: int) -> None:
            metering.record("tokens", {"customer": "acme", "value": "1"}, identifier=f"late-{done}")

        copied = metering.copy(f"sqlite:///{tmp_path / 'copy.db'}", progress=record_one)
        assert (copied.position, copied.later_events) == (head, 2)


def test_the_command_copies(tmp_path: Path) -> None:
    """It prints the root; a second copy is an error, and so is a ledger that doesn't exist."""
    tallybook, target = CommandLine(tmp_path), f"sqlite:///{tmp_path / 'copy.db'}"
    tallybook.run("meter", "configure", "tokens")
    lines = tallybook.lines("copy", tallybook.url, target)
    assert lines[0] == f"copied: 1 event and 0 key-value entries to {tmp_path / 'copy.db'}; all equal"
    copied = tallybook.run_json("copy", tallybook.url, f"sqlite:///{tmp_path / 'other.db'}")
    assert (copied["position"], f"Merkle root of both: {copied['root']}") == (1, lines[1])
    assert tallybook.run_error("copy", tallybook.url, target) == ("ledger_not_empty", "url")
    assert tallybook.run_error("copy", f"sqlite:///{tmp_path / 'none.db'}", target) == ("ledger_unavailable", "url")


def test_decreasing_times_of_an_earlier_version_are_not_copied(file_store: SQLiteFile, target: PersistentStore) -> None:
    """A new ledger accepts none. The copy is rejected with the position, and nothing is stored."""
    with decreasing_times_allowed(file_store):
        for event_name, days in (("tokens", 40), ("jobs", 39)):
            with Metering.open(file_store.url, clock=lambda days=days: START + timedelta(days=days)) as metering:
                metering.meters.configure(event_name, customer_key="customer")
    with (
        file_store.metering() as metering,
        pytest.raises(CopyNotSupported, match="position 2 was recorded at 2026-11-09"),
    ):
        metering.copy(target.url)
    with target.metering() as metering:
        assert metering.meters.list() == []
