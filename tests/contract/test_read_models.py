"""Read models are disposable: whatever happens to their file, the answers are the ledger's."""

import logging
import shutil
import sqlite3
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import Metering
from tallybook.projections.projector import Projector

from .histories import Answers, answers, record_history
from .stores import ANY_TIME, NOW, SQLiteFile, sqlite_file


def opened(store: SQLiteFile) -> Metering:
    """The ledger, opened as a program does."""
    return Metering.open(f"sqlite:///{store.place.events_database}", policy=ANY_TIME, clock=lambda: NOW)


def recorded(store: SQLiteFile, seed: int = 7, reports: int = 120) -> dict[str, Answers]:
    """The answers of a ledger with a history, closed."""
    with opened(store) as metering:
        record_history(metering, reports, seed)
        return answers(metering)


def delete_views(store: SQLiteFile) -> None:
    """Delete the read models as a person would: the file and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        Path(store.place.views_database + suffix).unlink(missing_ok=True)


def test_answers_are_the_same_after_the_read_models_are_deleted(file_store: SQLiteFile) -> None:
    """With the file deleted while nobody has it open, the next question makes it anew."""
    before = recorded(file_store)
    Path(file_store.place.views_database).unlink()
    with opened(file_store) as metering:
        assert answers(metering) == before
    assert Path(file_store.place.views_database).exists()


def test_answers_are_the_same_while_the_read_models_are_deleted(file_store: SQLiteFile) -> None:
    """With the file deleted under a program that has it open, that program and the next one answer as before, also
    after more is recorded."""
    recorded(file_store, reports=20)
    with opened(file_store) as one:
        before = answers(one)
        delete_views(file_store)
        assert answers(one) == before
        with opened(file_store) as other:
            assert answers(other) == before
            other.record("tokens", {"customer": "acme", "value": "1"})
            assert answers(one) == answers(other)
        assert answers(one) != before
    with opened(file_store) as metering:
        after = answers(metering)
    Path(file_store.place.views_database).unlink()
    with opened(file_store) as metering:
        assert answers(metering) == after


def test_threads_are_answered_while_the_read_models_are_deleted(file_store: SQLiteFile) -> None:
    """With the file deleted under a program of several threads, all get the same answers."""
    recorded(file_store, reports=20)
    with opened(file_store) as metering:
        before = answers(metering)
        delete_views(file_store)
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
    file_store: SQLiteFile, tmp_path: Path, reports: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A ledger put where another was, as from a backup, gets read models of its own, and the log says so."""
    recorded(file_store, seed=1, reports=60)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = sqlite_file(elsewhere)
    expected = recorded(other, seed=2, reports=reports)
    shutil.copy(other.place.events_database, file_store.place.events_database)
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="tallybook"), opened(file_store) as metering:
        assert answers(metering) == expected
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "made anew" in caplog.text


def test_read_models_of_this_ledger_are_kept(
    file_store: SQLiteFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Opened again, or moved together with its read models, a ledger goes on where it was, without a word."""
    before = recorded(file_store)
    (tmp_path / "moved").mkdir()
    moved = sqlite_file(tmp_path / "moved")
    shutil.move(file_store.place.events_database, moved.place.events_database)
    shutil.move(file_store.place.views_database, moved.place.views_database)
    position = moved_position(moved)
    assert position > 0
    with opened(moved) as metering:
        assert moved_position(moved) == position
        assert answers(metering) == before
    assert caplog.records == []


def moved_position(store: SQLiteFile) -> int:
    """How far the read models are, looked up past the application."""
    with closing(sqlite3.connect(store.place.views_database)) as connection:
        return int(connection.execute("SELECT max(notification_id) FROM tracking").fetchone()[0])


def test_an_older_backup_of_this_ledger_is_answered_for(file_store: SQLiteFile, tmp_path: Path) -> None:
    """Put back to an earlier state, the ledger answers for that state, and for what is recorded from there on."""
    recorded(file_store, reports=20)
    backup = tmp_path / "backup.db"
    shutil.copy(file_store.place.events_database, backup)
    with opened(file_store) as metering:
        at_backup = answers(metering)
        metering.record("tokens", {"customer": "acme", "value": "1"}, identifier="lost")
        assert answers(metering) != at_backup
    shutil.copy(backup, file_store.place.events_database)
    with opened(file_store) as metering:
        assert answers(metering) == at_backup
        metering.record("tokens", {"customer": "acme", "value": "2"}, identifier="lost")
    with opened(file_store) as metering:
        total = metering.total("tokens", "acme", NOW, NOW.replace(day=2))
        assert (total.sum, total.count) == (2, 1)


def test_a_question_waits_only_for_what_was_recorded_before_it(
    store: SQLiteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
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
