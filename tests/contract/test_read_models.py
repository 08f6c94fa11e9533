"""Read models are disposable: whatever happens to them, the answers are the ledger's."""

import logging
import threading
from typing import Any

import pytest
from tallybook.projections.projector import Projector

from .histories import Answers, answers, record_history
from .kept_stores import KeptStore
from .stores import NOW, Store


def recorded(store: KeptStore, seed: int = 7, reports: int = 120) -> dict[str, Answers]:
    """The answers of a ledger with a history, closed."""
    with store.opened() as metering:
        record_history(metering, reports, seed)
        return answers(metering)


def test_answers_are_the_same_after_the_read_models_are_deleted(kept_store: KeptStore) -> None:
    """With them deleted while nobody has it open, the next question makes it anew."""
    before = recorded(kept_store)
    kept_store.delete_views()
    with kept_store.opened() as metering:
        assert answers(metering) == before
    assert kept_store.has_views()


def test_answers_are_the_same_while_the_read_models_are_deleted(kept_store: KeptStore) -> None:
    """With them deleted under a program that has it open, that program and the next one answer as before, also
    after more is recorded."""
    recorded(kept_store, reports=20)
    with kept_store.opened() as one:
        before = answers(one)
        kept_store.delete_views()
        assert answers(one) == before
        with kept_store.opened() as other:
            assert answers(other) == before
            other.record("tokens", {"customer": "acme", "value": "1"})
            assert answers(one) == answers(other)
        assert answers(one) != before
    with kept_store.opened() as metering:
        after = answers(metering)
    kept_store.delete_views()
    with kept_store.opened() as metering:
        assert answers(metering) == after


def test_threads_are_answered_while_the_read_models_are_deleted(kept_store: KeptStore) -> None:
    """With them deleted under a program of several threads, all get the same answers."""
    recorded(kept_store, reports=20)
    with kept_store.opened() as metering:
        before = answers(metering)
        kept_store.delete_views()
        together = threading.Barrier(4)
        heard: list[dict[str, Answers] | BaseException] = []

        def ask() -> None:
            together.wait()
            for _ in range(5):
                try:
                    heard.append(answers(metering))
                except BaseException as error:
                    heard.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert heard == [before] * 20


@pytest.mark.parametrize("reports", [10, 60, 300], ids=["shorter", "of another time", "longer"])
def test_another_ledger_in_the_place_of_this_one_is_answered_for(
    kept_store: KeptStore, reports: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A ledger put where another was, as from a backup, gets read models of its own, and the log says so."""
    recorded(kept_store, seed=1, reports=60)
    other = kept_store.elsewhere()
    expected = recorded(other, seed=2, reports=reports)
    other.copy_ledger(kept_store)
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="tallybook"), kept_store.opened() as metering:
        assert answers(metering) == expected
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "made anew" in caplog.text


def test_several_that_open_another_ledger_at_once_all_answer_for_it(kept_store: KeptStore) -> None:
    """Each finds read models of another ledger, and one of them makes them anew."""
    recorded(kept_store, seed=1, reports=20)
    other = kept_store.elsewhere()
    expected = recorded(other, seed=2, reports=30)
    other.copy_ledger(kept_store)
    together = threading.Barrier(4)
    heard: list[dict[str, Answers] | BaseException] = []

    def ask() -> None:
        together.wait()
        try:
            with kept_store.opened() as metering:
                heard.append(answers(metering))
        except BaseException as error:
            heard.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == [expected] * 4
    with kept_store.opened() as metering:
        assert metering.verify().is_equal


def test_read_models_of_this_ledger_are_kept(kept_store: KeptStore, caplog: pytest.LogCaptureFixture) -> None:
    """Opened again, or moved together with its read models, a ledger goes on where it was, without a word."""
    before = recorded(kept_store)
    moved = kept_store.elsewhere()
    kept_store.move(moved)
    position = moved_position(moved)
    assert position > 0
    with moved.opened() as metering:
        assert moved_position(moved) == position
        assert answers(metering) == before
        metering.record("tokens", {"customer": "acme", "value": "1"})
        assert answers(metering) != before
    assert caplog.records == []


def moved_position(store: KeptStore) -> int:
    """How far the read models are, looked up past the application."""
    ((position,),) = store.views_rows("SELECT max(notification_id) FROM tracking")
    return int(position)


def test_an_older_backup_of_this_ledger_is_answered_for(kept_store: KeptStore) -> None:
    """Put back to an earlier state, the ledger answers for that state, and for what is recorded from there on."""
    recorded(kept_store, reports=20)
    backup = kept_store.elsewhere()
    kept_store.copy_ledger(backup)
    with kept_store.opened() as metering:
        at_backup = answers(metering)
        metering.record("tokens", {"customer": "acme", "value": "1"}, identifier="lost")
        assert answers(metering) != at_backup
    backup.copy_ledger(kept_store)
    with kept_store.opened() as metering:
        assert answers(metering) == at_backup
        metering.record("tokens", {"customer": "acme", "value": "2"}, identifier="lost")
    with kept_store.opened() as metering:
        total = metering.total("tokens", "acme", NOW, NOW.replace(day=2))
        assert (total.sum, total.count) == (2, 1)


def test_a_question_waits_only_for_what_was_recorded_before_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who records without a pause, always one event ahead, doesn't keep a question from its answer."""
    with store.metering() as metering:
        record_history(metering, 20)
        catch_up = Projector.catch_up

        def one_ahead(projector: Projector, *arguments: Any, **named: Any) -> int:
            reached = catch_up(projector, *arguments, **named)
            metering.record("tokens", {"customer": "acme", "value": "1"})
            return reached

        monkeypatch.setattr(Projector, "catch_up", one_ahead)
        assert metering.total("tokens", None, NOW.replace(month=10), NOW).count > 0
