"""The contract of the key-value store: entries have a kind and a key, and can be stored together with meter events."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from datetime import datetime, timedelta
from operator import attrgetter

import pytest
from eventsourcing.persistence import IntegrityError
from tallybook.application import EntryExists, KeyValueEntry, KeyValueStore, Metering, Outcome, Receipt, TallybookError

from .histories import START, configure, meter_event_data
from .persistent_stores import PersistentStore
from .stores import NOW, Store

FIELDS = attrgetter("identifier", "position", "outcome")
ODD_KEYS = ("'", '"', "%s", "a\nb", "\\x00", "{}", "ä", "日本", "🧾", " ", "a/b", "NULL", "k" * 500, "🧾" * 500)


def entry(key: str, at: int = 0, body: bytes = b"", kind: str = "response") -> KeyValueEntry:
    """Return an entry."""
    return KeyValueEntry(kind, key, at, body)


def event_input(identifier: str, value: str = "1") -> dict[str, object]:
    """Return a meter event of the meter `tokens`."""
    payload = {"customer": "acme", "value": value}
    return {"event_name": "tokens", "identifier": identifier, "timestamp": START, "payload": payload}


@pytest.fixture
def key_values(metering: Metering) -> KeyValueStore:
    """Return the empty key-value store of each store."""
    return metering.key_value_store()


def keys(rows: Sequence[KeyValueEntry]) -> list[str]:
    """Return the keys of the rows in order."""
    return [row.key for row in rows]


# --- entries without meter events ---------------------------------------------------------------------


def test_entries_are_found_by_kind_and_key(key_values: KeyValueStore) -> None:
    """An entry is returned with the bytes that were stored. Two kinds can have the same key."""
    body = bytes(range(256))
    key_values.apply(insert=[entry("a", -1, body), entry("b", 2**62), entry("a", 7, kind="other")])
    assert key_values.get("response", ["a", "c", "b", "a"]) == {"a": entry("a", -1, body), "b": entry("b", 2**62)}
    assert key_values.get("other", ["a", "b"]) == {"a": entry("a", 7, kind="other")}
    assert key_values.get("response", []) == {}


def test_many_entries_are_stored_and_read_in_bulk(key_values: KeyValueStore) -> None:
    """More keys can be used in one call than SQLite allows parameters in one statement."""
    rows = [entry(f"{number:05}", number, b"%d" % number) for number in range(1_300)]
    key_values.apply(insert=rows)
    assert key_values.get("response", [f"{number:05}" for number in range(-10, 1_400)]) == {
        row.key: row for row in rows
    }


@pytest.mark.parametrize("key", ODD_KEYS)
def test_a_key_may_be_any_text(key_values: KeyValueStore, key: str) -> None:
    """A key is any text of up to 500 characters."""
    key_values.apply(insert=[entry(key, body=b"1", kind="a kind's")])
    key_values.apply(upsert=[entry(key, body=b"2", kind="a kind's")])
    assert key_values.get("a kind's", [key]) == {key: entry(key, body=b"2", kind="a kind's")}
    key_values.apply(delete=[("a kind's", key)])
    assert key_values.get("a kind's", [key]) == {}


@pytest.mark.parametrize("key", ["", "k" * 501, "a\0b", "\ud800"])
def test_a_key_that_not_every_store_supports_is_rejected(key_values: KeyValueStore, key: str) -> None:
    """Every method rejects such a key, and a rejected change stores none of its entries."""
    for operation in (
        lambda: key_values.get("response", ["a", key]),
        lambda: key_values.scan("response", after=key, limit=1),
        lambda: key_values.apply(insert=[entry("a"), entry(key)]),
        lambda: key_values.apply(upsert=[entry("a"), entry(key)]),
        lambda: key_values.apply(upsert=[entry("a")], delete=[("response", key)]),
    ):
        with pytest.raises(TallybookError) as exc_info:
            operation()
        assert (exc_info.value.code, exc_info.value.field) == ("parameter_invalid", "key")
    assert key_values.get("response", ["a"]) == {}


def test_entries_are_listed_by_key_page_by_page(key_values: KeyValueStore) -> None:
    """Pages are in code point order on each store, forwards and backwards, and contain one kind only."""
    unsorted_keys = ["a", "B", "ä", "b", "_", "a-b", "a b", "aB", "日", "🧾", "\uff11"]
    key_values.apply(
        insert=[entry(key) for key in unsorted_keys] + [entry("a", kind="responses"), entry("z", kind="respons")]
    )
    assert keys(key_values.scan("response", limit=100)) == sorted(unsorted_keys)
    assert keys(key_values.scan("response", limit=100, newest_first=True)) == sorted(unsorted_keys, reverse=True)
    for newest_first in (False, True):
        listed: list[str] = []
        while page := key_values.scan(
            "response", after=listed[-1] if listed else None, limit=4, newest_first=newest_first
        ):
            listed += keys(page)
        assert listed == sorted(unsorted_keys, reverse=newest_first)
    assert keys(key_values.scan("response", after="a!", limit=2)) == ["a-b", "aB"]
    assert keys(key_values.scan("response", after="a!", limit=2, newest_first=True)) == ["a b", "a"]


def test_due_entries_are_returned_oldest_first(key_values: KeyValueStore) -> None:
    """The time limit is inclusive, and entries of the same time are ordered by key."""
    key_values.apply(
        insert=[entry("d", 3), entry("a", 4), entry("c", 1), entry("b", 1), entry("e", -5), entry("x", 0, kind="other")]
    )
    assert keys(key_values.due_before("response", 3, 10)) == ["e", "b", "c", "d"]
    assert keys(key_values.due_before("response", 2, 10)) == ["e", "b", "c"]
    assert keys(key_values.due_before("response", 4, 2)) == ["e", "b"]
    assert key_values.due_before("response", -6, 10) == []


def test_entries_due_before_a_time_are_deleted(key_values: KeyValueStore) -> None:
    """One call deletes entries of one kind, up to a limit."""
    key_values.apply(insert=[entry(f"{at}", at) for at in range(10)] + [entry("x", 0, kind="other")])
    assert key_values.delete_due_before("response", 6, 4) == 4
    assert keys(key_values.scan("response", limit=10)) == ["4", "5", "6", "7", "8", "9"]
    assert key_values.delete_due_before("response", 6, 4) == 3
    assert key_values.delete_due_before("response", 6, 4) == 0
    assert keys(key_values.scan("response", limit=10)) == ["7", "8", "9"]
    assert keys(key_values.scan("other", limit=10)) == ["x"]


def test_inserting_an_existing_entry_changes_nothing(key_values: KeyValueStore) -> None:
    """Inserting a key that exists, or one key twice, raises EntryExists and rolls back the whole change."""
    key_values.apply(insert=[entry("a", 1, b"first"), entry("gone", 1)])
    before = key_values.scan("response", limit=10)
    for add in ([entry("new"), entry("a", 2, b"second")], [entry("new"), entry("new")], [entry("a", 1, b"first")]):
        with pytest.raises(EntryExists):
            key_values.apply(insert=add, upsert=[entry("gone", 2)], delete=[("response", "gone")])
        assert key_values.scan("response", limit=10) == before


def test_one_change_deletes_inserts_and_upserts(key_values: KeyValueStore) -> None:
    """A change deletes first, so it can replace an entry. Of several upserts of one key, the last one applies."""
    key_values.apply(insert=[entry("a", 1), entry("b", 1), entry("c", 1)])
    key_values.apply(
        insert=[entry("a", 2), entry("d", 2)],
        upsert=[entry("b", 2), entry("e", 2), entry("e", 3), entry("d", 3)],
        delete=[("response", "a"), ("response", "c"), ("response", "never there"), ("other", "b")],
    )
    assert key_values.scan("response", limit=10) == [entry("a", 2), entry("b", 2), entry("d", 3), entry("e", 3)]
    key_values.apply()


def test_one_of_several_threads_inserts_an_entry(store: Store) -> None:
    """All other threads get EntryExists, and none of their entries are stored."""
    with store.metering() as metering:
        metering.key_value_store()
        won: list[int] = []

        def add(number: int) -> None:
            with suppress(EntryExists):
                metering.key_value_store().apply(insert=[entry("one", number), entry(f"of {number}")])
                won.append(number)

        run_in_threads([lambda number=number: add(number) for number in range(8)])
        assert len(won) == 1
        assert metering.key_value_store().scan("response", limit=20) == [entry(f"of {won[0]}"), entry("one", won[0])]


# --- locks --------------------------------------------------------------------------------------------


def test_a_lock_has_one_holder_at_a_time(store: Store) -> None:
    """try_lock returns False immediately in other threads and openings of the ledger. Other locks are unaffected."""
    with store.metering() as metering, store.metering() as another:
        key_values, other_key_values = metering.key_value_store(), another.key_value_store()
        with key_values.try_lock("sending / 1") as is_locked:
            assert is_locked
            tried: list[bool] = []

            def attempt() -> None:
                for store_to_lock in (key_values, other_key_values):
                    with store_to_lock.try_lock("sending / 1") as is_acquired:
                        tried.append(is_acquired)

            run_in_threads([attempt, attempt])
            attempt()
            assert tried == [False] * 6
            with other_key_values.try_lock("sweeping") as swept:
                assert swept
        with other_key_values.try_lock("sending / 1") as is_locked:
            assert is_locked


def test_a_lock_is_released_after_an_error(key_values: KeyValueStore) -> None:
    """The error is raised to the caller, and the lock can be acquired again."""
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), key_values.try_lock("failing") as is_locked:
            assert 1 / (not is_locked)


def run_in_threads(tasks: Sequence[object]) -> None:
    """Run the tasks concurrently, each in its own thread, and raise the first error."""
    failures: list[BaseException] = []
    barrier = threading.Barrier(len(tasks))

    def run_task(task: object) -> None:
        try:
            barrier.wait()
            assert callable(task)
            task()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run_task, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


# --- entries stored with meter events -----------------------------------------------------------------


@pytest.fixture
def tokens_ledger(metering: Metering) -> Iterator[Metering]:
    """Return a ledger with meters and one meter event with the identifier `taken`."""
    configure(metering)
    metering.record_many([event_input("taken")])
    yield metering
    assert metering.verify().is_equal


def attach_entry(key: str = "key") -> "AttachedEntry":
    """Return an attach callback that stores the receipts of a batch under a key, as the HTTP server does."""
    return AttachedEntry(key)


class AttachedEntry:
    """An attach callback that stores the receipts of a batch and records its calls."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.calls: list[tuple[Sequence[Receipt], datetime]] = []

    def __call__(self, receipts: Sequence[Receipt], now: datetime) -> Sequence[KeyValueEntry]:
        self.calls.append((receipts, now))
        return [
            entry(
                self.key,
                body=repr([(r.identifier, r.position, str(r.outcome)) for r in receipts]).encode(),
            )
        ]


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


# --- persistent stores --------------------------------------------------------------------------------


def test_an_older_ledger_gets_the_table(persistent_store: PersistentStore) -> None:
    """The table is created when the key-value store is first used, not when the ledger is opened."""
    with persistent_store.open() as metering:
        configure(metering)
        metering.record_many([event_input("old")])
    with pytest.raises(Exception, match="key_values"):
        persistent_store.ledger_rows("SELECT * FROM key_values")
    with persistent_store.open() as metering:
        metering.record_many([event_input("new")], attach=attach_entry())
    with persistent_store.open() as metering:
        assert keys(metering.key_value_store().scan("response", limit=10)) == ["key"]
        assert [event.identifier for event in metering.events("tokens")] == ["old", "new"]
        metering.key_value_store().apply(upsert=[entry("key", 5)])
    assert persistent_store.ledger_rows("SELECT kind, key, at FROM key_values") == [("response", "key", 5)]


def test_concurrent_openings_create_one_table(persistent_store: PersistentStore) -> None:
    """All openings store their entries in the same table."""
    with closing(persistent_store.ledger()):
        openings = [persistent_store.ledger() for _ in range(4)]
    run_in_threads(
        [
            lambda ledger=ledger, n=n: ledger.key_value_store().apply(insert=[entry(f"{n}")])
            for n, ledger in enumerate(openings)
        ]
    )
    assert len(openings[0].key_value_store().scan("response", limit=10)) == 4
    for ledger in openings:
        ledger.close()


LOCK_PROGRAM = """
import sys
from tallybook.application import Metering
with Metering.open(sys.argv[1]) as metering, metering.key_value_store().try_lock("sending") as is_locked:
    print(is_locked, flush=True)
    sys.stdin.read()
"""


def test_a_lock_passes_to_another_process_when_its_holder_is_killed(persistent_store: PersistentStore) -> None:
    """The lock is released when the process is killed."""
    with persistent_store.open() as metering:
        key_values = metering.key_value_store()
        command = [sys.executable, "-c", LOCK_PROGRAM, persistent_store.url]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "True\n"
            with key_values.try_lock("sending") as is_locked:
                assert not is_locked
            process.kill()
        deadline, is_locked = time.monotonic() + 20, False
        while not is_locked and time.monotonic() < deadline:
            with key_values.try_lock("sending") as is_locked:
                pass
        assert is_locked


def test_old_entries_are_deleted_while_others_are_stored(store: Store) -> None:
    """Concurrent deletions and inserts affect each entry exactly once."""
    with store.metering() as metering:
        configure(metering)
        key_values, entry_count, later = metering.key_value_store(), 40, int((NOW + timedelta(days=1)).timestamp())
        key_values.apply(insert=[entry(f"old {number:03}", number) for number in range(entry_count)])
        removed: list[int] = []

        def sweep() -> None:
            while (count := key_values.delete_due_before("response", entry_count, 3)) > 0:
                removed.append(count)

        def record() -> None:
            for number in range(10):
                metering.record_many(
                    [event_input(f"n{number}")], attach=lambda _, __, n=number: [entry(f"new {n}", later)]
                )

        run_in_threads([sweep, sweep, record])
        while count := key_values.delete_due_before("response", entry_count, 100):
            removed.append(count)
        assert sum(removed) == entry_count
        assert len(key_values.scan("response", limit=100)) == 10
