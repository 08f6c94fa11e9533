"""The contract of key-value entries that are stored in the same transaction as meter events."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from operator import attrgetter

import pytest
from eventsourcing.persistence import IntegrityError
from tallybook.application import EntryExists, KeyValueEntry, Metering, Outcome, Receipt, TallybookError

from .entries import attach_entry, entry, event_input, keys, run_in_threads
from .histories import configure, meter_event_data
from .stores import NOW, Store

FIELDS = attrgetter("identifier", "position", "outcome")


@pytest.fixture
def tokens_ledger(metering: Metering) -> Iterator[Metering]:
    """Return a ledger with meters and one meter event with the identifier `taken`."""
    configure(metering)
    metering.record_many([event_input("taken")])
    yield metering
    assert metering.verify().is_equal


def test_receipts_are_stored_with_their_meter_events(tokens_ledger: Metering) -> None:
    """The attach callback gets the receipts of the batch and its time, and its entry is committed with the events."""
    attach, head = attach_entry(), tokens_ledger.catch_up()
    meter_events = [
        event_input("new"),
        event_input("taken"),
        event_input("taken", "2"),
        event_input("bad", "x"),
        event_input("new"),
    ]
    receipts = tokens_ledger.record_many(meter_events, attach=attach)
    assert [receipt.outcome for receipt in receipts] == [
        Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.CONFLICT, Outcome.REJECTED, Outcome.DUPLICATE,
    ]  # fmt: skip
    attached_receipts, now = attach.calls[-1]
    assert [FIELDS(receipt) for receipt in attached_receipts] == [FIELDS(receipt) for receipt in receipts]
    assert now == NOW
    stored_entry = tokens_ledger.key_value_store().get("response", ["key"])["key"]
    assert f"('new', {head + 1}, 'accepted'), ('taken', {head}, 'duplicate')".encode() in stored_entry.body
    assert tokens_ledger.catch_up() == head + 1


@pytest.mark.parametrize(
    "meter_events", [[], [event_input("taken")], [event_input("taken", "2")], [event_input("bad", "x")]]
)
def test_receipts_are_stored_if_no_event_is_new(tokens_ledger: Metering, meter_events: list[object]) -> None:
    """The entry is stored if all meter events are duplicates, conflicts or rejected."""
    head = tokens_ledger.catch_up()
    receipts = tokens_ledger.record_many(meter_events, attach=attach_entry())
    assert [receipt.position for receipt in receipts] == [
        None if receipt.error and "bad" in str(receipt) else head for receipt in receipts
    ]
    assert keys(tokens_ledger.key_value_store().scan("response", limit=10)) == ["key"]
    with pytest.raises(EntryExists):
        tokens_ledger.record_many(meter_events, attach=attach_entry())
    assert tokens_ledger.catch_up() == head


def test_an_existing_entry_rolls_back_the_events(tokens_ledger: Metering) -> None:
    """If the callback returns an existing key, nothing is stored. With another key the same meter event is accepted."""
    head = tokens_ledger.catch_up()
    tokens_ledger.key_value_store().apply(insert=[entry("key", 1, b"first")])
    with pytest.raises(EntryExists):
        tokens_ledger.record_many(
            [event_input("new")], attach=lambda receipts, now: [entry("other"), *attach_entry()(receipts, now)]
        )
    assert tokens_ledger.key_value_store().scan("response", limit=10) == [entry("key", 1, b"first")]
    assert tokens_ledger.catch_up() == head
    (receipt,) = tokens_ledger.record_many([event_input("new")], attach=attach_entry("another"))
    assert (receipt.outcome, receipt.position) == (Outcome.ACCEPTED, head + 1)


def test_a_failing_attach_callback_rolls_back_the_events(tokens_ledger: Metering) -> None:
    """The callback's error is raised unchanged, and the next batch is recorded."""
    head = tokens_ledger.catch_up()

    def fail(receipts: Sequence[Receipt], now: datetime) -> Sequence[KeyValueEntry]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tokens_ledger.record_many([event_input("new")], attach=fail)
    assert tokens_ledger.catch_up() == head
    with pytest.raises(TallybookError):
        tokens_ledger.record_many([event_input("new")], attach=attach_entry("k" * 501))
    assert tokens_ledger.record_many([event_input("new")], attach=attach_entry())[0].position == head + 1


def test_a_duplicate_identifier_rolls_back_the_entries(metering: Metering) -> None:
    """A duplicate identifier rolls back the events and the entries of the append."""
    ledger = metering._ledger  # pyright: ignore[reportPrivateUsage]
    ledger.append_meter_events({"taken": meter_event_data()})
    calls: list[object] = []
    with pytest.raises(IntegrityError):
        ledger.append_meter_events(
            {"new": meter_event_data(), "taken": meter_event_data()}, (), lambda new: [entry("key", len(calls))]
        )
    assert metering.key_value_store().scan("response", limit=10) == []
    assert ledger.head() == 1
    new = ledger.append_meter_events(
        {"new": meter_event_data()}, (), lambda new: [entry(name, at) for name, at in new.items()]
    )
    assert metering.key_value_store().scan("response", limit=10) == [entry("new", new["new"])]


def test_attach_is_called_again_after_a_concurrent_meter_change(tokens_ledger: Metering, store: Store) -> None:
    """If the meter is deactivated before the batch is stored, attach gets only the receipts of the second decision."""
    attach, is_changed = attach_entry(), threading.Event()
    ledger = tokens_ledger._ledger  # pyright: ignore[reportPrivateUsage]
    append = ledger.append_meter_events

    def deactivate_first(*arguments: object) -> object:
        if not is_changed.is_set():
            is_changed.set()
            tokens_ledger.meters.deactivate("tokens")
        return append(*arguments)  # type: ignore[arg-type]

    ledger.append_meter_events = deactivate_first  # type: ignore[method-assign]
    (receipt,) = tokens_ledger.record_many([event_input("new")], attach=attach)
    assert receipt.error is not None
    assert receipt.error.code == "archived_meter"
    assert b"rejected" in tokens_ledger.key_value_store().get("response", ["key"])["key"].body
    assert [str(receipts[0].outcome) for receipts, _ in attach.calls] == ["rejected"]


def test_one_of_several_threads_with_the_same_key_records(store: Store) -> None:
    """The other threads get EntryExists, and none of their meter events are stored."""
    with store.metering() as metering:
        configure(metering)
        metering.key_value_store()
        head, won = metering.catch_up(), list[int]()

        def record(number: int) -> None:
            with suppress(EntryExists):
                metering.record_many([event_input(f"{number}-{index}") for index in range(3)], attach=attach_entry())
                won.append(number)

        run_in_threads([lambda number=number: record(number) for number in range(6)])
        assert len(won) == 1
        stored = [index.identifier for index in metering.events("tokens")]
        assert stored == [f"{won[0]}-{index}" for index in range(3)]
        assert (
            f"('{won[0]}-0', {head + 1}, 'accepted')".encode()
            in metering.key_value_store().get("response", ["key"])["key"].body
        )


def test_one_of_several_threads_with_the_same_batch_records(store: Store) -> None:
    """A retry during the first attempt is counted once and has one stored entry."""
    with store.metering() as metering:
        configure(metering)
        outcomes: list[str] = []

        def record() -> None:
            try:
                outcomes.extend(
                    str(index.outcome) for index in metering.record_many([event_input("a")], attach=attach_entry())
                )
            except EntryExists:
                outcomes.append("exists")

        run_in_threads([record] * 6)
        assert sorted(outcomes) == ["accepted", *["exists"] * 5]
        assert b"accepted" in metering.key_value_store().get("response", ["key"])["key"].body
