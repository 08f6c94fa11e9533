"""The live read models compared with what DuckDB computes from an archive: equal, or the difference is found."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from tallybook.application import AcceptancePolicy, ArchiveMismatch, Metering

from ..cli.command_line import CommandLine
from ..contract.persistent_stores import SQLiteFile
from ..properties.coverage import first_examples
from .histories import HISTORIES, Query, Rules, Step, ledger_of
from .test_archive_totals import write_segments

RANGE = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 10, 3, tzinfo=UTC)


@settings(first_examples(4))
@given(history=HISTORIES)
def test_the_read_models_have_the_totals_of_the_archive(
    tmp_path_factory: pytest.TempPathFactory, history: tuple[Rules, Sequence[Step], Sequence[Query]]
) -> None:
    """All rules, windows, dimensions, cancellations and closed periods; also if the ledger has grown since."""
    rules, steps, _ = history
    folder = tmp_path_factory.mktemp("archive")
    with ledger_of(rules, steps) as metering:
        write_segments(folder, metering, 64)
        comparison = metering.verify_with_archive(folder)
        assert comparison.differences == ()
        assert (comparison.is_equal, comparison.position) == (True, metering.catch_up())
        meter = metering.meters.list()[0].event_name
        metering.meters.rename(meter, "renamed")
        assert metering.verify_with_archive(folder).is_equal


def test_windows_that_change_on_a_date_have_buckets_of_their_own(tmp_path: Path) -> None:
    """The usage of a window of a day is in the hour of midnight only where the windows are hours."""
    with Metering.open("sqlite://", policy=AcceptancePolicy(max_age=None)) as metering:
        metering.meters.configure("calls", customer_key="customer", event_time_window="day")
        hours = {"event_time_window": "hour"}
        metering.rules.change("calls", hours, reason="by the hour", effective_from=datetime(2026, 3, 2, tzinfo=UTC))
        for day in (1, 2):
            at = datetime(2026, 3, day, 13, 30, tzinfo=UTC)
            metering.record("calls", {"customer": "acme", "value": "5"}, timestamp=at)
        write_segments(tmp_path, metering, 64)
        assert metering.verify_with_archive(tmp_path).differences == ()


@pytest.fixture
def used(tmp_path: Path) -> tuple[SQLiteFile, Path]:
    """Return a ledger with a sum and a last value per hour, a closed period, and its archive."""
    store, archive = SQLiteFile.in_file(tmp_path / "usage.db"), tmp_path / "archive"
    with store.metering() as metering:
        metering.meters.configure("calls", customer_key="customer", dimension_keys=["region"])
        metering.meters.configure("seats", formula="last", event_time_window="hour", customer_key="customer")
        metering.meters.configure("users", formula="unique_count", customer_key="customer")
        for number in range(40):
            payload = {"customer": f"c-{number % 3}", "value": str(number), "region": "eu"}
            at = RANGE[0] + timedelta(hours=number)
            for event_name in ("calls", "seats", "users"):
                metering.record(event_name, payload, identifier=f"{event_name}-{number}", timestamp=at)
        metering.cancel("seats", "seats-7")
        metering.periods.close("calls", "c-1", *RANGE)
        metering.archive.export(archive)
        metering.catch_up()
    return store, archive


CORRUPTIONS: dict[str, tuple[str, str]] = {
    "a sum of a month": ("UPDATE totals_1 SET sum = '1' WHERE bucket_seconds = 2678400", "calls"),
    "a count of a day": ("UPDATE totals_1 SET count = count + 1 WHERE bucket_seconds = 86400 AND meter = 1", "calls"),
    "an hour": ("DELETE FROM totals_1 WHERE bucket_seconds = 3600", "seats"),
    "a sum of a last value": ("UPDATE totals_1 SET sum = '1' WHERE bucket_seconds = 86400 AND meter = 2", "seats"),
    "a count of unique values": ("UPDATE totals_1 SET count = 9 WHERE bucket_seconds = 86400 AND meter = 3", "users"),
    "a day of unique values": ("DELETE FROM totals_1 WHERE bucket_seconds = 86400 AND meter = 3", "users"),
}


@pytest.mark.parametrize("corruption", CORRUPTIONS)
def test_a_changed_total_is_found(used: tuple[SQLiteFile, Path], corruption: str) -> None:
    """The difference has the meter, the customer, the window and both figures."""
    store, archive = used
    statement, meter = CORRUPTIONS[corruption]
    with store.open() as metering:
        assert metering.verify_with_archive(archive).is_equal
    assert store.corrupt_read_models(statement)
    with store.open() as metering:
        comparison = metering.verify_with_archive(archive)
    assert not comparison.is_equal
    first = comparison.differences[0]
    assert first.event_name == meter
    assert first.customer in {"c-0", "c-1", "c-2"}
    assert first.found != first.expected
    assert comparison.difference_count >= len(comparison.differences)


def test_a_row_that_no_projection_writes_is_found(used: tuple[SQLiteFile, Path]) -> None:
    """A total of an event that has no time; all other meters are compared."""
    store, archive = used
    assert store.corrupt_read_models("UPDATE totals_1 SET count = 1 WHERE bucket_seconds = 3600 AND count = 0")
    assert store.corrupt_read_models("UPDATE totals_1 SET sum = '1' WHERE bucket_seconds = 86400 AND meter = 3")
    with store.open() as metering:
        comparison = metering.verify_with_archive(archive)
    unreadable, *others = comparison.differences
    assert (unreadable.event_name, unreadable.found) == ("seats", "unreadable")
    assert {other.event_name for other in others} == {"users"}


def test_a_changed_closed_period_is_found(used: tuple[SQLiteFile, Path]) -> None:
    """Its digest isn't that of the events in the archive."""
    store, archive = used
    changed = store.corrupt_ledger(
        'UPDATE stored_events SET state = CAST(replace(CAST(state AS TEXT), \'"digest":"\', \'"digest":"0\') AS BLOB)'
        " WHERE topic = 'PeriodClosed'"
    )
    assert changed
    with store.open() as metering:
        comparison = metering.verify_with_archive(archive)
    (difference,) = comparison.differences
    assert (comparison.closed_periods, difference.customer) == (1, "c-1")
    assert difference.found == f"0{difference.expected}"


def test_an_archive_of_a_longer_ledger_is_rejected(used: tuple[SQLiteFile, Path], tmp_path: Path) -> None:
    """It is of another ledger, and nothing is compared."""
    with SQLiteFile.in_file(tmp_path / "other.db").metering() as metering:
        metering.meters.configure("calls")
        with pytest.raises(ArchiveMismatch, match="of another ledger"):
            metering.verify_with_archive(used[1])


def test_the_command_compares(used: tuple[SQLiteFile, Path]) -> None:
    """The exit status is 1 if a figure differs, and the output names it."""
    store, archive = used
    tallybook = CommandLine(archive.parent)
    assert tallybook.lines("verify", "--archive", archive)[1:] == ["all equal"]
    assert "--checkpoints" in tallybook.run("verify", "--archive", archive, "--checkpoints", "x", status=2).stderr
    assert store.corrupt_read_models("DELETE FROM totals_1 WHERE bucket_seconds = 3600")
    output = tallybook.run("verify", "--archive", archive, status=1).stdout
    assert "seats, c-0, 2026-10-01 00:00:00Z to 2026-10-01 01:00:00Z differs\n  found     none\n" in output
    assert "more differences; --json lists up to 100." in output
    rows = tallybook.run("verify", "--archive", archive, "--csv", status=1).stdout.splitlines()
    assert rows[0].startswith("event_name,customer,start,end,found,expected")
    assert len(rows) == 40
