"""Read models can be lost: they are rebuilt from the ledger, and the results are the same."""

import logging
import threading
from typing import Any

import pytest
from tallybook.application import Metering
from tallybook.projections.projector import Projector

from .histories import QueryResults, query_results, record_history
from .persistent_stores import PersistentStore
from .stores import ANY_TIME, NOW, Store


def record_and_query(store: PersistentStore, seed: int = 7, event_count: int = 120) -> dict[str, QueryResults]:
    """Record a history, return the results of all queries, and close the ledger."""
    with store.open() as metering:
        record_history(metering, event_count, seed)
        return query_results(metering)


def test_results_are_the_same_after_the_read_models_are_deleted(persistent_store: PersistentStore) -> None:
    """Read models that were deleted are rebuilt by the next query."""
    before = record_and_query(persistent_store)
    persistent_store.delete_read_models()
    with persistent_store.open() as metering:
        assert query_results(metering) == before
    assert persistent_store.has_read_models()


def test_results_are_the_same_while_the_read_models_are_deleted(persistent_store: PersistentStore) -> None:
    """If read models are deleted while a process uses them, its results and those of the next process are the same,
    also after new events."""
    record_and_query(persistent_store, event_count=20)
    with persistent_store.open() as other_metering:
        before = query_results(other_metering)
        persistent_store.delete_read_models()
        assert query_results(other_metering) == before
        with persistent_store.open() as other:
            assert query_results(other) == before
            other.record("tokens", {"customer": "acme", "value": "1"})
            assert query_results(other_metering) == query_results(other)
        assert query_results(other_metering) != before
    with persistent_store.open() as metering:
        after = query_results(metering)
    persistent_store.delete_read_models()
    with persistent_store.open() as metering:
        assert query_results(metering) == after


def test_threads_get_results_while_the_read_models_are_deleted(persistent_store: PersistentStore) -> None:
    """If read models are deleted while several threads use them, all threads get the same results."""
    record_and_query(persistent_store, event_count=20)
    with persistent_store.open() as metering:
        before = query_results(metering)
        persistent_store.delete_read_models()
        together = threading.Barrier(4)
        results: list[dict[str, QueryResults] | BaseException] = []

        def query() -> None:
            together.wait()
            for _ in range(5):
                try:
                    results.append(query_results(metering))
                except BaseException as error:
                    results.append(error)

        threads = [threading.Thread(target=query) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [before] * 20


@pytest.mark.parametrize("event_count", [10, 60, 300], ids=["shorter", "similar", "longer"])
def test_a_replaced_ledger_is_projected_again(
    persistent_store: PersistentStore, event_count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """If a ledger is replaced by another one, its read models are rebuilt, and a message is logged."""
    record_and_query(persistent_store, seed=1, event_count=60)
    other = persistent_store.new_location()
    expected = record_and_query(other, seed=2, event_count=event_count)
    other.copy_ledger(persistent_store)
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="tallybook"), persistent_store.open() as metering:
        assert query_results(metering) == expected
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "they are rebuilt" in caplog.text


def test_concurrent_openers_of_a_replaced_ledger_all_project_it(persistent_store: PersistentStore) -> None:
    """All openings find read models of another ledger, and one of them rebuilds them."""
    record_and_query(persistent_store, seed=1, event_count=20)
    other = persistent_store.new_location()
    expected = record_and_query(other, seed=2, event_count=30)
    other.copy_ledger(persistent_store)
    together = threading.Barrier(4)
    results: list[dict[str, QueryResults] | BaseException] = []

    def query() -> None:
        together.wait()
        try:
            with persistent_store.open() as metering:
                results.append(query_results(metering))
        except BaseException as error:
            results.append(error)

    threads = [threading.Thread(target=query) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4
    with persistent_store.open() as metering:
        assert metering.verify().is_equal


def test_read_models_of_the_same_ledger_stay(
    persistent_store: PersistentStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A reopened or moved ledger uses its existing read models, and nothing is logged."""
    before = record_and_query(persistent_store)
    moved = persistent_store.new_location()
    persistent_store.move(moved)
    position = projected_position(moved)
    assert position > 0
    with moved.open() as metering:
        assert projected_position(moved) == position
        assert query_results(metering) == before
        metering.record("tokens", {"customer": "acme", "value": "1"})
        assert query_results(metering) != before
    assert caplog.records == []


def projected_position(store: PersistentStore) -> int:
    """Return the position of the read models, read without the application."""
    ((position,),) = store.read_model_rows("SELECT max(notification_id) FROM tracking")
    return int(position)


def test_a_restored_older_backup_is_projected_again(persistent_store: PersistentStore) -> None:
    """After a restore, results include the events of the backup and those recorded after the restore."""
    record_and_query(persistent_store, event_count=20)
    backup = persistent_store.new_location()
    persistent_store.copy_ledger(backup)
    with persistent_store.open() as metering:
        at_backup = query_results(metering)
        metering.record("tokens", {"customer": "acme", "value": "1"}, identifier="lost")
        assert query_results(metering) != at_backup
    backup.copy_ledger(persistent_store)
    with persistent_store.open() as metering:
        assert query_results(metering) == at_backup
        metering.record("tokens", {"customer": "acme", "value": "2"}, identifier="lost")
    with persistent_store.open() as metering:
        total = metering.total("tokens", "acme", NOW, NOW.replace(day=2))
        assert (total.sum, total.count) == (2, 1)


def test_a_query_waits_only_for_events_recorded_before_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query returns even if a writer records an event after each catch-up."""
    with store.metering() as metering:
        record_history(metering, 20)
        catch_up = Projector.catch_up

        def record_then_catch_up(projector: Projector, *arguments: Any, **named: Any) -> int:
            reached = catch_up(projector, *arguments, **named)
            metering.record("tokens", {"customer": "acme", "value": "1"})
            return reached

        monkeypatch.setattr(Projector, "catch_up", record_then_catch_up)
        assert metering.total("tokens", None, NOW.replace(month=10), NOW).count > 0


def test_an_unfinished_query_leaves_no_old_state(persistent_store: PersistentStore) -> None:
    """An unfinished iterator, for example in a traceback, has no effect on the next use of its connection."""
    unfinished: list[Any] = []
    with (
        persistent_store.components() as (ledger, read_models),
        persistent_store.components() as (_, other_read_models),
        Metering(ledger, read_models, ANY_TIME, lambda: NOW) as metering,
    ):
        record_history(metering, 300, 7)
        projector, other_projector = Projector(ledger, read_models), Projector(ledger, other_read_models)
        position = projector.catch_up()
        for _ in range(3):
            with read_models.read_session() as reader:
                for table in reader.table_names():
                    unfinished.append(rows := iter(reader.table_rows(table)))
                    next(rows)
            metering.record("tokens", {"customer": "acme", "value": "1"})
            position += 1
            assert other_projector.catch_up() == position
            with read_models.read_session() as reader:
                assert reader.position() == position
            metering.record("tokens", {"customer": "acme", "value": "1"})
            position += 1
            assert projector.catch_up() == position
