"""The projector: a page and the position it reaches are committed together, each exactly once."""

import sqlite3
from pathlib import Path

import pytest
from tallybook.application import Metering, Progress, TallybookError

from ..notation import Clock, moment

DAY = moment("00:00"), moment("11T00:00")


def reports(first: int, last: int) -> list[dict[str, object]]:
    """Reports of 1, numbered."""
    return [
        {
            "event_name": "calls",
            "payload": {"customer": "acme", "value": "1"},
            "identifier": f"e{n}",
            "timestamp": DAY[0],
        }
        for n in range(first, last)
    ]


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A ledger of 24 reports in a file, not folded yet."""
    where = f"sqlite:///{tmp_path}/usage.db"
    with Metering.open(where, clock=Clock(DAY[0])) as metering:
        metering.configure_meter("calls", customer_key="customer")
        metering.record_many(reports(0, 24))
    return where


def sized(metering: Metering, page_size: int) -> Metering:
    """Fold in pages of this size."""
    metering._projector.page_size = page_size  # pyright: ignore[reportPrivateUsage]
    return metering


def test_progress_is_told_after_each_page(url: str) -> None:
    """The position reached and the head to reach."""
    told: list[Progress] = []
    with sized(Metering.open(url), 10) as metering:
        assert metering.catch_up(told.append) == 25
        assert [(one.position, one.head) for one in told] == [(10, 25), (20, 25), (25, 25)]
        assert all(one.events_per_second > 0 for one in told)
        assert metering.catch_up(told.append) == 25
        assert len(told) == 3


def test_an_interrupted_fold_goes_on_where_it_was(url: str) -> None:
    """What was committed stays, and is not folded in twice."""

    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with sized(Metering.open(url), 7) as metering, pytest.raises(KeyboardInterrupt):
        metering.catch_up(interrupt)
    told: list[Progress] = []
    with sized(Metering.open(url), 7) as metering:
        metering.catch_up(told.append)
        assert [one.position for one in told] == [14, 21, 25]
        assert metering.total("calls", "acme", *DAY).count == 24


def test_a_read_is_never_stale(url: str) -> None:
    """A question catches up first, with what another opened ledger recorded too."""
    with Metering.open(url, clock=Clock(DAY[0])) as reader, Metering.open(url, clock=Clock(DAY[0])) as writer:
        assert reader.total("calls", "acme", *DAY).count == 24
        writer.record_many(reports(24, 30))
        assert reader.total("calls", "acme", *DAY).count == 30
        writer.cancel("calls", "e0")
        assert [one.verdict for one in reader.events("calls", limit=1)] == ["cancelled"]


def test_read_models_are_disposable(url: str, tmp_path: Path) -> None:
    """Their file deleted, the same answers are given again."""
    with Metering.open(url) as metering:
        before = metering.totals("calls", *DAY), metering.events("calls")
    for file in tmp_path.glob("usage.db.views*"):
        file.unlink()
    with Metering.open(url) as metering:
        assert (metering.totals("calls", *DAY), metering.events("calls")) == before


def test_read_models_of_another_ledger_are_made_anew(url: str, tmp_path: Path) -> None:
    """A ledger that was put back from a backup, or put in the place of another, is not answered with old figures."""
    with Metering.open(url) as metering:
        assert metering.total("calls", "acme", *DAY).count == 24
    for name in ("usage.db", "usage.db-wal", "usage.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    with Metering.open(url, clock=Clock(DAY[0])) as metering:
        metering.configure_meter("calls", formula="count", customer_key="customer")
        metering.record_many(reports(50, 53))
        assert metering.total("calls", "acme", *DAY).count == 3


@pytest.mark.parametrize("page_size", [1, 3, 1_000])
def test_it_stops_at_an_event_that_cannot_be_folded(url: str, tmp_path: Path, page_size: int) -> None:
    """It says which and why, folds in all before it, skips nothing, and goes no further however often it is asked."""
    with sqlite3.connect(tmp_path / "usage.db") as connection:
        connection.execute("INSERT INTO stored_events VALUES (26, 'event/x', 1, 'Unheard', '{}')")
    connection.close()
    with sized(Metering.open(url, clock=Clock(DAY[0])), page_size) as metering:
        metering.record_many(reports(24, 30))
        for _ in range(2):
            with pytest.raises(TallybookError) as stopped:
                metering.total("calls", "acme", *DAY)
            assert (stopped.value.code, stopped.value.value) == ("projection_stopped", 26)
            assert "Unheard" in stopped.value.message
        with metering._views.reading() as rows:  # pyright: ignore[reportPrivateUsage]
            assert rows.position() == 25


def test_a_ledger_that_does_not_hold_what_its_head_says_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that are gone are not waited for."""
    with Metering.open(url) as metering:
        monkeypatch.setattr(metering._projector.ledger, "page", lambda after, limit: [])  # pyright: ignore
        with pytest.raises(TallybookError, match="holds nothing from position 1 on"):
            metering.catch_up()
