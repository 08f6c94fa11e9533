"""Usage leaves the ledger for the archive, and everything is answered as before, on each store."""

import re
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from tallybook.application import Metering
from tallybook.application.checkpoints.pruned_headings import headings_digest
from tallybook.domain.errors import (
    ArchiveInUse,
    ArchiveMismatch,
    ArchiveUnavailable,
    CheckpointMismatch,
    InvalidCheckpointFile,
    InvalidParameter,
    InvalidSigningKey,
)
from tallybook.domain.history_pruning import STREAM_PREFIX

from ..contract.histories import START
from ..contract.persistent_stores import PersistentStore, Step, StoreRejected
from .pruning import BOUNDS, EVENTS, LIFTED, History, PrunableLedger, forge, forge_pruning, pruned_positions, query_all


@pytest.fixture
def ledger(store: PersistentStore, tmp_path: Path) -> PrunableLedger:
    """Return a ledger of each store with a history that can be pruned."""
    return PrunableLedger(store, tmp_path)


def test_everything_is_answered_as_before(ledger: PrunableLedger) -> None:
    """Also by a ledger that is opened again, after a rebuild, and by a copy."""
    with ledger.metering() as metering:
        expected = ledger.history.prune(metering, dry_run=True)
        assert pruned_positions(ledger.store) == set()
        assert metering.archive.pruned() is None
        result = ledger.history.prune(metering)
        assert (result.events, result.position) == (expected.events, ledger.archived) == (EVENTS, ledger.archived)
        assert len(pruned_positions(ledger.store)) == EVENTS
        assert ledger.answers(metering) == ledger.before
        last = metering.history.list(after=ledger.head).entries
        assert [(entry.event, entry.details["position"]) for entry in last] == [("HistoryPruned", ledger.archived)]
    ledger.store.delete_read_models()
    with ledger.metering() as metering:
        assert ledger.answers(metering) == ledger.before
        pruned = metering.archive.pruned()
        assert pruned is not None
        assert (pruned.position, pruned.archive) == (ledger.archived, ledger.history.archive.as_uri())
        target = ledger.history.archive.with_name("copy.db")
        metering.copy(f"sqlite:///{target}")
    shutil.rmtree(ledger.history.archive)
    with Metering.open(f"sqlite:///{target}", policy=LIFTED, clock=ledger.clock) as copy:
        assert query_all(copy) == ledger.before[0]


def test_an_old_event_is_cancelled_and_counts_again(ledger: PrunableLedger) -> None:
    """Its content comes from the archive; the cancellation and what follows are in the ledger."""
    with ledger.metering() as metering:
        ledger.history.prune(metering)
        events = map(metering.event, ledger.identifiers)
        event = next(event for event in events if event.superseded_by is None and event.cancelled_at is None)
        before = metering.totals(event.event_name, *BOUNDS)
        metering.cancel(event.event_name, event.identifier, reason="wrong")
        assert metering.totals(event.event_name, *BOUNDS) != before
        assert metering.event(event.identifier).reason == "wrong"
        metering.revoke_cancel(event.event_name, event.identifier, reason="right")
        assert metering.totals(event.event_name, *BOUNDS) == before
        assert metering.verify().is_equal
        ledger.history.archive_all(metering)
        assert ledger.history.prune(metering).events == 1  # the event `late`
        assert metering.verify().is_equal


def test_without_the_archive_the_error_names_it_and_the_positions(ledger: PrunableLedger) -> None:
    """Totals, roots and new usage need no archive. If it was moved, the next pruning says where it is."""
    moved = ledger.history.archive.with_name("moved")
    with ledger.metering() as metering:
        ledger.history.prune(metering)
        totals = metering.totals("tokens", *BOUNDS)
    ledger.history.archive.rename(moved)
    with ledger.metering() as metering:
        with pytest.raises(ArchiveUnavailable) as unavailable:
            metering.explain("tokens", None, *BOUNDS)
        assert re.fullmatch(
            rf"The events? at positions? .* in the archive {ledger.history.archive.as_uri()}, which can't be read: "
            r"no archive is there\. Restore it from a backup\. If it was moved, run 'tallybook archive prune' .*",
            unavailable.value.message,
        )
        with pytest.raises(ArchiveUnavailable):
            metering.record("tokens", {"customer": "acme", "value": "1"}, identifier=ledger.identifiers[0])
        assert metering.totals("tokens", *BOUNDS) == totals
        assert metering.checkpoints.verify(ledger.history.checkpoints).difference is None
        assert metering.record("tokens", {"customer": "acme", "value": "0"}, timestamp=START).outcome == "accepted"
        ledger.history.archive = moved
        assert ledger.history.prune(metering).archive == moved.as_uri()
        assert metering.explain("tokens", None, *BOUNDS).events
        assert metering.verify().is_equal


def test_without_the_archive_nothing_that_reads_old_usage_again_is_done(ledger: PrunableLedger) -> None:
    """Verification, rebuilds, changes of rules and lost read models need the archive, and the error says so."""
    with ledger.metering() as metering:
        ledger.history.prune(metering)
    ledger.history.archive.rename(ledger.history.archive.with_name("moved"))
    with ledger.metering() as metering:
        for call in (
            metering.verify,
            metering.generations.rebuild,
            lambda: metering.rules.change("tokens", {"formula": "count"}, reason="test"),
        ):
            with pytest.raises(ArchiveUnavailable, match=ledger.history.archive.as_uri()):
                call()
    ledger.store.delete_read_models()
    with ledger.metering() as metering, pytest.raises(ArchiveUnavailable, match=ledger.history.archive.as_uri()):
        metering.total("tokens", "acme", *BOUNDS)


def test_a_duplicate_that_cant_be_read_holds_up_no_other_event(ledger: PrunableLedger) -> None:
    """It is rejected with the reason: its identifier is taken, so it isn't recorded in any case."""
    with ledger.metering() as metering:
        ledger.history.prune(metering)
        old = metering.event(ledger.identifiers[0])
    moved = ledger.history.archive.with_name("moved")
    ledger.history.archive.rename(moved)
    duplicate = {"event_name": old.event_name, "identifier": old.identifier, "payload": old.payload}
    new = {"event_name": "tokens", "payload": {"customer": "acme", "value": "1"}}
    events = [
        {**duplicate, "timestamp": old.occurred_at},
        {**new, "identifier": "new"},
        {**new, "identifier": "late", "timestamp": START, "payload": {"customer": "acme", "value": "7"}},
        {**duplicate, "payload": {}},
    ]
    with ledger.metering() as metering:
        receipts = metering.record_many(events)
        assert [receipt.outcome for receipt in receipts] == ["rejected", "accepted", "duplicate", "rejected"]
        for receipt in (receipts[0], receipts[3]):
            assert isinstance(receipt.error, ArchiveUnavailable)
            assert repr(old.identifier) in receipt.error.message
            assert str(ledger.history.archive) not in receipt.error.message  # a client of a server reads it
            assert ledger.history.archive.as_uri() in str(receipt.error.__cause__)
        assert metering.event("new").payload["value"] == "1"
    moved.rename(ledger.history.archive)
    with ledger.metering() as metering:
        receipts = metering.record_many(events)
        assert [receipt.outcome for receipt in receipts] == ["duplicate", "duplicate", "duplicate", "conflict"]


def test_a_changed_event_of_the_archive_is_not_believed(ledger: PrunableLedger) -> None:
    """Each event that is read is compared with its leaf hash, also if the manifest and the file agree."""
    other = ledger.history.archive.with_name("other")
    with ledger.metering() as metering:
        ledger.history.prune(metering)
        first = metering.event(ledger.identifiers[0])
    shutil.copytree(ledger.history.archive, other)
    forge(other, first.position)
    shutil.rmtree(ledger.history.archive)
    other.rename(ledger.history.archive)
    with ledger.metering() as metering:
        with pytest.raises(ArchiveMismatch, match=f"another event at position {first.position}"):
            metering.event(first.identifier)
        with pytest.raises(ArchiveMismatch, match="Nothing was pruned"):
            ledger.history.prune(metering)


REJECTED = (
    "UPDATE stored_events SET state = CAST(? AS {bytes}) WHERE position = 4",
    "UPDATE stored_events SET state = CAST(? AS {bytes}) WHERE position = {late}",
    "UPDATE stored_events SET state = CAST(? AS {bytes}) WHERE topic <> 'UsageRecorded'",
    "UPDATE stored_events SET originator_id = 'event/x' WHERE position = 5 AND ? = ?",
    "DELETE FROM stored_events WHERE position = 4 AND ? = ?",
)
"""Changes of a pruned state, of a later one and of other events."""


def test_only_a_pruning_that_is_recorded_replaces_states(ledger: PrunableLedger) -> None:
    """Everything else is rejected: before it, without the event HistoryPruned; after it, a second change."""
    early = REJECTED[0].format(bytes=ledger.bytes_type)
    with pytest.raises(StoreRejected, match="stored events are never changed"):
        ledger.store.execute("ledger", Step(early, ("x" * 32,)))
    with ledger.metering() as metering:
        ledger.history.prune(metering)
    before = ledger.store.ledger_rows("SELECT * FROM stored_events ORDER BY position")
    for statement in REJECTED:
        step = statement.format(bytes=ledger.bytes_type, late=ledger.head)
        with pytest.raises(StoreRejected, match="stored events are never"):
            ledger.store.execute("ledger", Step(step, ("x" * 32,) * step.count("?")))
    assert ledger.store.ledger_rows("SELECT * FROM stored_events ORDER BY position") == before


def test_a_row_that_an_owner_empties_is_found(ledger: PrunableLedger) -> None:
    """A hash without a pruning, or one that is not the leaf hash, differs from the checkpoint."""
    with ledger.metering() as metering:
        ledger.store.corrupt_ledger("UPDATE stored_events SET state = ? WHERE position = 4", b"x" * 32)
        difference = metering.checkpoints.verify(ledger.history.checkpoints).difference
        assert difference is not None
        assert difference.first_position == 4
        with pytest.raises(ArchiveMismatch, match="Nothing was pruned"):
            ledger.history.prune(metering)


def test_what_is_not_archived_or_checkpointed_or_old_stays(ledger: PrunableLedger) -> None:
    """Usage after the archive, after the last checkpoint, and within `keep`."""
    with ledger.metering() as metering:
        assert ledger.history.prune(metering, keep=timedelta(days=1, seconds=1)).position == 0
        assert metering.archive.pruned() is None
        metering.archive.export(ledger.history.archive)
        assert ledger.history.prune(metering).position == ledger.archived
        ledger.history.archive_all(metering)
        assert ledger.history.prune(metering, keep=timedelta(hours=12)).position == ledger.archived
        assert ledger.history.prune(metering).position == ledger.head + 1  # with the event HistoryPruned


def test_what_is_required(ledger: PrunableLedger, tmp_path: Path) -> None:
    """A policy, a signature, and no other process that prunes or exports."""
    history = ledger.history
    other = History(tmp_path / "archive")
    with Metering.open(ledger.store.url, clock=ledger.clock) as metering:
        with pytest.raises(InvalidParameter, match=r"'keep' must be at least 35 days, .*, not 34 days"):
            history.prune(metering, keep=timedelta(days=34))
        with pytest.raises(InvalidCheckpointFile, match="not signed"):
            metering.archive.prune(history.archive, checkpoints=history.checkpoints, key=other.key)
        rotated = metering.archive.prune(
            history.archive, checkpoints=history.checkpoints, key=other.key, previous_keys=[history.key], dry_run=True
        )
        assert rotated.checkpoint_size == ledger.archived
        with pytest.raises(InvalidSigningKey):
            metering.archive.prune(history.archive, checkpoints=history.checkpoints, key=cast(Any, None))
        with (
            metering.key_value_store().try_lock("pruning the history"),
            ledger.metering() as second,
            pytest.raises(ArchiveInUse, match="pruning this ledger"),
        ):
            history.prune(second)


RENAMED = "UPDATE stored_events SET originator_id = ? WHERE position = ?"


def test_exchanged_identifiers_of_pruned_events_are_found(ledger: PrunableLedger) -> None:
    """The leaf hashes stay as they are, but the headings have a digest, which the next checkpoint covers."""
    with ledger.metering() as metering:
        ledger.history.prune(metering)
        ledger.history.archive_all(metering)
        first, second = (metering.event(identifier).position for identifier in ledger.identifiers[:2])
        streams = [f"event/{identifier}" for identifier in ledger.identifiers[:2]]
        for stream, position in (("event/free", first), (streams[0], second), (streams[1], first)):
            ledger.store.corrupt_ledger(RENAMED, stream, position)
        difference = metering.checkpoints.verify(ledger.history.checkpoints).difference
        assert difference is not None
        assert "The stream, version or topic of an event" in difference.message
        in_archive = metering.archive.verify(ledger.history.archive).differences
        assert [one.first_position for one in in_archive] == [min(first, second)]
        with pytest.raises(ArchiveMismatch, match=f"position {second} has another stream"):
            metering.event(ledger.identifiers[0])
        with pytest.raises(ArchiveMismatch, match="Nothing was pruned"):
            ledger.history.prune(metering)


def test_a_second_pruning_does_not_hide_a_changed_identifier(ledger: PrunableLedger) -> None:
    """The digests of all prunings are compared."""
    with ledger.metering() as metering:
        ledger.history.prune(metering)
        ledger.history.archive_all(metering)
        ledger.store.corrupt_ledger(RENAMED, "event/free", metering.event(ledger.identifiers[0]).position)
        with ledger.opened() as attacked:
            forge_pruning(attacked, ledger.clock())
        difference = metering.checkpoints.verify(ledger.history.checkpoints).difference
        assert difference is not None
        assert "The stream, version or topic of an event" in difference.message
        with pytest.raises(CheckpointMismatch, match="The stream, version or topic of an event"):
            metering.checkpoints.verify_published(ledger.history.key_file)


def test_a_pruning_is_compared_with_its_archive_before_a_checkpoint_covers_it(ledger: PrunableLedger) -> None:
    """Whoever changes an identifier can also write the pruning that has its digest."""
    history = ledger.history
    with ledger.metering() as metering:
        history.prune(metering)
        position = metering.event(ledger.identifiers[0]).position
        ledger.store.corrupt_ledger(RENAMED, "event/free", position)
        with ledger.opened() as attacked:
            (state,) = (stored.state for stored in attacked.ledger_recorder.select_by_prefix(STREAM_PREFIX))
            before = attacked.ledger_recorder.last_pruning().headings.encode()
            forged = state.replace(before, headings_digest(attacked, ledger.archived).encode())
        ledger.store.corrupt_ledger("UPDATE stored_events SET state = ? WHERE topic = 'HistoryPruned'", forged)
        difference = metering.checkpoints.verify(history.checkpoints).difference
        assert difference is not None
        assert f"position {position} has another stream" in difference.message
        with pytest.raises(CheckpointMismatch, match=f"position {position} has another stream"):
            metering.checkpoints.create(history.checkpoints, key=history.key_file)
        with pytest.raises(CheckpointMismatch, match=f"position {position} has another stream"):
            metering.checkpoints.publish(history.key_file)
    shutil.rmtree(history.archive)
    with ledger.metering() as metering:
        (warning,) = metering.checkpoints.verify(history.checkpoints).warnings
        assert "not compared with its archive" in warning
        with pytest.raises(ArchiveUnavailable):
            metering.checkpoints.create(history.checkpoints, key=history.key_file)


def test_sql_that_reads_the_table_of_the_ledger_is_rejected(ledger: PrunableLedger) -> None:
    """It would not find the pruned usage. Engines that read the archive do, and so does a copy of the ledger."""
    with ledger.metering() as metering:
        ledger.history.prune(metering)
        for dialect in ("sqlite", "postgres"):
            with pytest.raises(InvalidParameter, match=r"reads the ledger's table\. Use 'duckdb'"):
                metering.sql.totals("tokens", *BOUNDS, dialect=dialect)
        assert metering.sql.totals("tokens", *BOUNDS, dialect="duckdb").statement
        copy = ledger.history.archive.with_name("copy.db")
        metering.copy(f"sqlite:///{copy}")
    with Metering.open(f"sqlite:///{copy}", policy=LIFTED, clock=ledger.clock) as metering:
        assert metering.sql.totals("tokens", *BOUNDS, dialect="sqlite").statement
