"""Totals from the usage segments of an archive are those of the ledger, with the same digits."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from tallybook.application import Archive, ArchiveInUse, Metering, TallybookError
from tallybook.application.archive.folder import FolderDestination

from ..cli.command_line import CommandLine
from ..notation import Ledger, moment
from ..properties.coverage import first_examples
from .comparison import WHERE
from .histories import HISTORIES, Query, Rules, Step, ledger_of
from .test_archive_totals import write_segments

NOVEMBER = moment("2026-11-01T00:00"), moment("2026-12-01T00:00")


@settings(first_examples(12))
@given(history=HISTORIES)
def test_usage_segments_have_the_totals_of_the_ledger(
    tmp_path_factory: pytest.TempPathFactory, history: tuple[Rules, Sequence[Step], Sequence[Query]]
) -> None:
    """Whatever the rules and the position, with groups and selected dimension values, and if some are missing."""
    rules, steps, queries = history
    folder = tmp_path_factory.mktemp("archive")
    with ledger_of(rules, steps) as metering:
        write_segments(folder, metering, 8)
        archive = Archive.open(folder)
        for meter in metering.meters.list():
            with suppress(TallybookError):  # it counts texts
                archive.materialize(meter.event_name)
        compare(metering, archive, queries[0])
        for file in usage_files(folder)[::2]:
            file.unlink()
        compare(metering, archive, queries[-1])


def compare(metering: Metering, archive: Archive, query: Query) -> None:
    """Compare the totals of a query, if the ledger doesn't reject it."""
    as_of = int(metering.catch_up() * query.known)
    try:
        rules = metering.meters.get(query.meter, as_of=as_of)
        keys = (*rules.dimension_keys, *rules.optional_dimension_keys)
        where = {key: values for key, values in WHERE.items() if key in keys} if query.where else {}
        group_by = keys if query.group_by else ()
        expected = metering.totals(query.meter, *query.bounds, as_of=as_of, where=where, group_by=group_by)
    except TallybookError:
        return
    assert archive.totals(query.meter, *query.bounds, as_of=as_of, where=where, group_by=group_by) == expected


def usage_files(folder: Path) -> list[Path]:
    """Return the usage segments of an archive."""
    return sorted((folder / "usage").rglob("*.parquet"))


@pytest.fixture
def used(ledger: Ledger) -> Ledger:
    """Return a ledger with usage of two customers, and a cancellation."""
    ledger.given("""
        meter  calls  sum
        10:05  acme calls 10.50  id=a
        10:10  acme calls -3  id=b
        10:45  beta calls  4  id=c
        cancel c
        10:50  beta calls  0.0  id=d
    """)
    return ledger


def test_numbers_have_the_digits_of_the_ledger(used: Ledger, tmp_path: Path) -> None:
    """Zeros after the point too."""
    write_segments(tmp_path, used.metering, 2)
    archive = Archive.open(tmp_path)
    expected = used.metering.totals("calls", *NOVEMBER)
    assert archive.materialize("calls").added == 3
    totals = archive.totals("calls", *NOVEMBER)
    assert [str(total) for total in totals] == [str(total) for total in expected]
    assert [str(total.sum) for total in totals] == ["7.50", "0.0"]


def test_totals_read_the_usage_segments(used: Ledger, tmp_path: Path) -> None:
    """A changed file gives other totals, and those of the ledger again once it is deleted; `verify` warns of that."""
    write_segments(tmp_path, used.metering, 128)
    archive = Archive.open(tmp_path)
    archive.materialize("calls")
    (file,) = usage_files(tmp_path)
    changed = f"SELECT * REPLACE (digits + 1 AS digits) FROM read_parquet('{file}')"
    duckdb.execute(f"COPY ({changed}) TO '{tmp_path}/changed.parquet' (FORMAT parquet)")
    (tmp_path / "changed.parquet").rename(file)
    expected = used.metering.totals("calls", *NOVEMBER)
    assert archive.totals("calls", *NOVEMBER) != expected
    verification = archive.verify()
    assert (verification.differences, len(verification.warnings)) == ((), 1)
    assert "usage segments, which are not verified" in verification.warnings[0]
    file.unlink()
    assert archive.totals("calls", *NOVEMBER) == expected


def test_a_usage_segment_that_is_incomplete(used: Ledger, tmp_path: Path) -> None:
    """The error says what to delete."""
    write_segments(tmp_path, used.metering, 128)
    archive = Archive.open(tmp_path)
    archive.materialize("calls")
    (file,) = usage_files(tmp_path)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(TallybookError, match="delete its folder 'usage'"):
        archive.totals("calls", *NOVEMBER)


def test_only_new_segments_are_added(used: Ledger, tmp_path: Path) -> None:
    """After another export, and for revisions that read other events."""
    write_segments(tmp_path, used.metering, 128)
    archive = Archive.open(tmp_path)
    progress: list[tuple[int, int]] = []

    def advance(done: int, total: int) -> None:
        progress.append((done, total))

    assert archive.materialize("calls", progress=advance).added == 1
    assert archive.materialize("calls").added == 0
    used.given("10:55  acme calls 1  id=e")
    write_segments(tmp_path, used.metering, 128)
    assert archive.totals("calls", *NOVEMBER) == used.metering.totals("calls", *NOVEMBER)
    assert archive.materialize("calls").added == 1
    for changes in ({"formula": "max"}, {"filter": {"key": "kind", "exists": True}}):
        used.metering.rules.change("calls", changes, reason="a test")
    write_segments(tmp_path, used.metering, 128)
    materialization = archive.materialize("calls")
    assert (materialization.added, materialization.segments) == (4, 6)
    assert progress == [(1, 1)]
    for as_of in (6, None):
        expected = used.metering.totals("calls", *NOVEMBER, as_of=as_of)
        assert archive.totals("calls", *NOVEMBER, as_of=as_of) == expected


def test_values_that_are_too_long(used: Ledger, tmp_path: Path) -> None:
    """Of 19 digits and more, zeros included: totals are computed from the events."""
    used.given("10:55  acme calls 0.0000000000000000001  id=e")
    write_segments(tmp_path, used.metering, 128)
    archive = Archive.open(tmp_path)
    archive.materialize("calls")
    assert archive.totals("calls", *NOVEMBER) == used.metering.totals("calls", *NOVEMBER)


def test_errors(used: Ledger, tmp_path: Path) -> None:
    """Usage without numbers, an unknown meter, and an export at the same time."""
    used.metering.meters.configure("users", formula="unique_count", customer_key="customer")
    write_segments(tmp_path, used.metering, 128)
    archive = Archive.open(tmp_path)
    for meter, message in (("users", "no numbers"), ("call", "calls")):
        with pytest.raises(TallybookError, match=message):
            archive.materialize(meter)
    with FolderDestination(tmp_path).exclusive(), pytest.raises(ArchiveInUse):
        archive.materialize("calls")


def test_the_command_materializes(used: Ledger, tmp_path: Path) -> None:
    """It says what it added and what the archive has now."""
    write_segments(tmp_path, used.metering, 4)
    command = ("archive", "materialize", "calls", tmp_path)
    tallybook = CommandLine(tmp_path)
    assert tallybook.run(*command).stdout.startswith("materialized: 2 files of ")
    assert tallybook.lines(*command) == [f"nothing to materialize: {tmp_path} has the usage of calls up to position 6"]
