"""A retry of an object keeps its import, and the list says what is wrong with an object."""

from datetime import datetime
from pathlib import Path

import pytest
from tallybook.application import Metering, UsageSourceUnavailable
from tallybook.application.object_import.importer import ObjectImporter
from tallybook.application.object_import.results import ObjectReport, ObjectStatus

from ..cli.command_line import CommandLine
from .usage_objects import NOW, TIMESTAMP, configure, counted, csv_of, put, rows


def import_objects(metering: Metering, folder: Path, *, retry: bool = False) -> ObjectReport:
    """Import the only object of a folder."""
    (report,) = ObjectImporter(metering, f"file://{folder}").run(retry=retry).reports
    return report


@pytest.fixture
def imported(metering: Metering, folder: Path) -> ObjectReport:
    """The report of an object with a row that is rejected, and one that is a duplicate."""
    metering.record(
        "tokens", {"customer": "acme", "tokens": 1}, identifier="r0", timestamp=datetime.fromisoformat(TIMESTAMP)
    )
    put(folder, "a.csv", csv_of([*rows("r0", "r1", "r2"), *rows("r3", value="many")]))
    report = import_objects(metering, folder)
    assert (report.accepted, report.duplicate, report.rejected) == (2, 1, 1)
    assert report.run_id is not None
    return report


def outcomes(report: ObjectReport) -> tuple[object, ...]:
    return report.run_id, report.rows, report.accepted, report.duplicate, report.rejected


def test_a_retry_that_records_nothing_keeps_the_import(
    metering: Metering, folder: Path, imported: ObjectReport
) -> None:
    """However often, so that it can be taken back by its report."""
    for _ in range(2):
        assert outcomes(import_objects(metering, folder, retry=True)) == outcomes(imported)
    (listed,) = ObjectImporter(metering, f"file://{folder}").reports()
    metering.imports.undo(str(listed.run_id), reason="test")
    assert counted(metering) == (1, 1)


def test_a_retry_that_ends_early_keeps_the_import(
    metering: Metering, folder: Path, imported: ObjectReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next import, which reads the object again, has it."""

    def unavailable(*_: object) -> None:
        raise UsageSourceUnavailable("It can't be read.")

    with monkeypatch.context() as patched:
        patched.setattr(ObjectImporter, "_read", unavailable)
        assert import_objects(metering, folder, retry=True).status is ObjectStatus.UNAVAILABLE
    assert outcomes(import_objects(metering, folder)) == outcomes(imported)


def test_a_retry_that_records_rows_is_an_import_of_its_own(metering: Metering, folder: Path) -> None:
    """Both are listed, under the name of the object."""
    put(folder, "a.csv", csv_of([*rows("r1"), ("r2", NOW.isoformat(), "calls", "acme", 1)]))
    first = import_objects(metering, folder)
    metering.meters.configure("calls", customer_key="customer", value_key="tokens")
    second = import_objects(metering, folder, retry=True)
    assert (second.accepted, second.duplicate, second.rejected) == (1, 1, 0)
    assert [run.run_id for run in metering.imports.list()] == [first.run_id, second.run_id]


def test_the_list_has_the_first_problem_of_each_object(tmp_path: Path, folder: Path) -> None:
    """The error of the object, or else that of its first rejected row."""
    line = CommandLine(tmp_path)
    line.environment["COLUMNS"] = "1000"
    with Metering.open(line.url) as metering:
        configure(metering)
    put(folder, "rejected.csv", csv_of([("r1", "yesterday", "tokens", "acme", 1), *rows("r2", value="many")]))
    put(folder, "failed.txt", b"hello")
    line.run("import", f"file://{folder}", status=1)
    listed = {row.rpartition("/")[2].split()[0]: row for row in line.lines("import", f"file://{folder}", "--list")}
    assert "line 2: 'timestamp'" in listed["rejected.csv"]
    assert "its suffix is not that of a known format" in listed["failed.txt"]
