"""The contract of the key-value store: entries have a kind and a key, and can be stored together with meter events."""

import subprocess
import sys
import time
from contextlib import closing, suppress
from datetime import timedelta

import pytest
from tallybook.application import EntryExists, KeyValueStore, Metering, TallybookError
from tallybook.application.storage.postgres.monitored_connection import MonitoredConnection

from .entries import attach_entry, entry, event_input, keys, run_in_threads
from .histories import configure
from .persistent_stores import PersistentStore, PostgresSchema
from .stores import NOW, Store

ODD_KEYS = ("'", '"', "%s", "a\nb", "\\x00", "{}", "ä", "日本", "🧾", " ", "a/b", "NULL", "k" * 500, "🧾" * 500)


@pytest.fixture
def key_values(metering: Metering) -> KeyValueStore:
    """Return the empty key-value store of each store."""
    return metering.key_value_store()


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


def test_a_lock_is_free_before_the_server_notices_that_its_connection_is_closed(
    postgres_store: PostgresSchema, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction ends first: a second run right after the first one is no concurrent run."""
    with postgres_store.metering() as metering:
        unnoticed: list[MonitoredConnection] = []

        def leave_open(connection: MonitoredConnection) -> None:
            unnoticed.append(connection)

        with monkeypatch.context() as patch:
            patch.setattr(MonitoredConnection, "close", leave_open)
            for _ in range(2):
                with metering.key_value_store().try_lock("importing") as is_locked:
                    assert is_locked
        assert len(unnoticed) == 2
        for connection in unnoticed:
            connection.close()


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
