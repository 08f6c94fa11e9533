"""Totals from the segments of an archive are those of the ledger."""

from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from tallybook.application import Archive, Metering, TallybookError, TotalList
from tallybook.application.archive.export import Exporter
from tallybook.application.archive.locations import resolve_destination
from tallybook.application.archive.reader import no_progress
from tallybook.application.archive.sql.segments import DuckDBSegments
from tallybook.application.queries import archive_totals as queries

from ..notation import Ledger, moment
from ..properties.coverage import first_examples
from .histories import HISTORIES, Query, Rules, Step, ledger_of

NOVEMBER = moment("2026-11-01T00:00"), moment("2026-12-01T00:00")


@settings(first_examples(12))
@given(history=HISTORIES)
def test_an_archive_has_the_totals_of_the_ledger(
    tmp_path_factory: pytest.TempPathFactory, history: tuple[Rules, Sequence[Step], Sequence[Query]]
) -> None:
    """Whatever the segments, the rules and the position; and it raises the same errors."""
    rules, steps, queries = history
    folder = tmp_path_factory.mktemp("archive")
    with ledger_of(rules, steps) as metering:
        files = write_segments(folder, metering, 8)
        for query in queries:
            as_of = int(metering.catch_up() * query.known)
            try:
                group_by = metering.meters.get(query.meter, as_of=as_of).dimension_keys if query.group_by else ()
                expected = metering.totals(query.meter, *query.bounds, as_of=as_of, group_by=group_by)
            except TallybookError as error:
                with pytest.raises(type(error)):
                    archive_totals(files, query.meter, *query.bounds, as_of=as_of)
                continue
            assert archive_totals(files, query.meter, *query.bounds, as_of=as_of, group_by=group_by) == expected


def write_segments(folder: Path, metering: Metering, size: int) -> list[str]:
    """Export a ledger to segments of some events each."""
    ledger = metering._ledger  # pyright: ignore[reportPrivateUsage]
    Exporter(ledger, resolve_destination(folder), no_progress, size).run()
    return list(Archive.open(folder).files)


def archive_totals(files: Sequence[str], *arguments: Any, **options: Any) -> TotalList:
    """Return totals from some files."""
    with closing(DuckDBSegments(files)) as segments:
        return queries.archive_totals(segments, *arguments, **options)


@pytest.fixture
def used(ledger: Ledger) -> Ledger:
    """Return a ledger with usage of two customers, and a cancellation a minute later."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10  id=a
        10:45  beta calls  4  id=b
    """)
    ledger.clock.now += timedelta(minutes=1)
    ledger.given("cancel b")
    return ledger


def test_as_of_a_time(used: Ledger, tmp_path: Path) -> None:
    """A time is resolved to a position, as the ledger does it."""
    files = write_segments(tmp_path, used.metering, 128)
    bounds = moment("2000-01-01T00:00"), moment("2100-01-01T00:00")
    before = used.clock.now - timedelta(seconds=1)
    totals = archive_totals(files, "calls", *bounds, as_of=before)
    assert totals == used.metering.totals("calls", *bounds, as_of=before)
    assert len(totals) == 2
    assert Archive.open(tmp_path).totals("calls", *bounds) == used.metering.totals("calls", *bounds) == totals[:1]


def test_errors(used: Ledger, tmp_path: Path) -> None:
    """An error says what is wrong with the files, the meter or a dimension."""
    files = write_segments(tmp_path, used.metering, 2)
    for arguments, code in (
        ((files[1:], "calls"), "ledger_corrupted"),
        (([*files, files[0]], "calls"), "ledger_corrupted"),
        (([str(tmp_path / "missing.parquet")], "calls"), "parameter_invalid"),
        ((files, "call"), "no_meter"),
    ):
        with pytest.raises(TallybookError) as caught:
            archive_totals(*arguments, *NOVEMBER)
        assert caught.value.code == code
    with pytest.raises(TallybookError, match="no dimension"):
        archive_totals(files, "calls", *NOVEMBER, group_by=["region"])
