"""The projector: a page and the position it reaches are committed together, each exactly once."""

import sqlite3
from pathlib import Path

import pytest
from tallybook.application import Metering, Progress, TallybookError

from ..notation import Clock, moment

DAY = moment("00:00"), moment("11T00:00")


def meter_events(first: int, last: int) -> list[dict[str, object]]:
    """Return numbered meter events with the value 1."""
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
    """Return the URL of a ledger with 24 meter events that are not projected yet."""
    ledger_url = f"sqlite:///{tmp_path}/usage.db"
    with Metering.open(ledger_url, clock=Clock(DAY[0])) as metering:
        metering.meters.configure("calls", customer_key="customer")
        metering.record_many(meter_events(0, 24))
    return ledger_url


def with_page_size(metering: Metering, page_size: int) -> Metering:
    """Set the page size."""
    metering._projector.page_size = page_size  # pyright: ignore[reportPrivateUsage]
    return metering


def test_progress_is_reported_after_each_page(url: str) -> None:
    """It has the position reached and the head."""
    progress: list[Progress] = []
    with with_page_size(Metering.open(url), 10) as metering:
        assert metering.catch_up(progress.append) == 25
        assert [(step.position, step.head) for step in progress] == [(10, 25), (20, 25), (25, 25)]
        assert all(step.events_per_second > 0 for step in progress)
        assert metering.catch_up(progress.append) == 25
        assert len(progress) == 3


def test_an_interrupted_fold_resumes_at_its_position(url: str) -> None:
    """Committed pages stay and are not projected twice."""

    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with with_page_size(Metering.open(url), 7) as metering, pytest.raises(KeyboardInterrupt):
        metering.catch_up(interrupt)
    progress: list[Progress] = []
    with with_page_size(Metering.open(url), 7) as metering:
        metering.catch_up(progress.append)
        assert [step.position for step in progress] == [14, 21, 25]
        assert metering.total("calls", "acme", *DAY).count == 24


def test_a_read_is_never_stale(url: str) -> None:
    """A query catches up first, including events recorded by another instance."""
    with Metering.open(url, clock=Clock(DAY[0])) as reader, Metering.open(url, clock=Clock(DAY[0])) as writer:
        assert reader.total("calls", "acme", *DAY).count == 24
        writer.record_many(meter_events(24, 30))
        assert reader.total("calls", "acme", *DAY).count == 30
        writer.cancel("calls", "e0")
        assert [event.verdict for event in reader.events("calls", limit=1)] == ["cancelled"]


def test_read_models_are_disposable(url: str, tmp_path: Path) -> None:
    """After deleting their file, the results are the same."""
    with Metering.open(url) as metering:
        before = metering.totals("calls", *DAY), metering.events("calls")
    for file in tmp_path.glob("usage.db.read-models*"):
        file.unlink()
    with Metering.open(url) as metering:
        assert (metering.totals("calls", *DAY), metering.events("calls")) == before


def test_read_models_of_another_ledger_are_rebuilt(url: str, tmp_path: Path) -> None:
    """After a restore or a replacement of the ledger file, no old totals are returned."""
    with Metering.open(url) as metering:
        assert metering.total("calls", "acme", *DAY).count == 24
    for name in ("usage.db", "usage.db-wal", "usage.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    with Metering.open(url, clock=Clock(DAY[0])) as metering:
        metering.meters.configure("calls", formula="count", customer_key="customer")
        metering.record_many(meter_events(50, 53))
        assert metering.total("calls", "acme", *DAY).count == 3


@pytest.mark.parametrize("page_size", [1, 3, 1_000])
def test_it_stops_at_an_event_that_cannot_be_folded(url: str, tmp_path: Path, page_size: int) -> None:
    """The error has the position and the reason; all events before it are projected, and retries go no further."""
    with sqlite3.connect(tmp_path / "usage.db") as connection:
        insert = "INSERT INTO stored_events VALUES (26, 'event/x', 1, 'Unheard', ?)"
        connection.execute(insert, (b'{"recorded_at":"2026-11-10T00:00:00Z"}',))
    connection.close()
    with with_page_size(Metering.open(url, clock=Clock(DAY[0])), page_size) as metering:
        metering.record_many(meter_events(24, 30))
        for _ in range(2):
            with pytest.raises(TallybookError) as stopped:
                metering.total("calls", "acme", *DAY)
            assert (stopped.value.code, stopped.value.value) == ("projection_stopped", 26)
            assert "Unheard" in stopped.value.message
        with metering._read_models.read_session() as rows:  # pyright: ignore[reportPrivateUsage]
            assert rows.position() == 25


def test_a_ledger_with_fewer_events_than_its_head_is_reported(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The projector raises an error instead of waiting."""
    with Metering.open(url) as metering:
        monkeypatch.setattr(metering._projector.ledger, "read_page", lambda after, limit: [])  # pyright: ignore
        with pytest.raises(TallybookError, match="has no events from position 1 on"):
            metering.catch_up()
