"""Objects are imported once each, whatever their format, and one that can't be read affects no others."""

import gzip
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import InvalidUsageSource, Metering, UsageSourceUnavailable
from tallybook.application.object_import.importer import ObjectImporter
from tallybook.application.object_import.local_files import local_files
from tallybook.application.object_import.results import ObjectImport, ObjectReport, ObjectStatus
from tallybook.application.usage_import.formats import BATCH_ROWS, FileLimits

from ..contract.persistent_stores import PersistentStore
from .usage_objects import FORMATS, NOW, TIMESTAMP, configure, counted, csv_of, json_of, jsonl_of, put, rows


def importer_of(metering: Metering, folder: Path, **options: object) -> ObjectImporter:
    return ObjectImporter(metering, f"file://{folder}", **options)  # pyright: ignore[reportArgumentType]


def by_name(reports: "tuple[ObjectReport, ...] | list[ObjectReport]") -> dict[str, ObjectReport]:
    """Return reports by the name of the object."""
    return {report.url.rpartition("/")[2]: report for report in reports}


def test_each_object_is_read_once_in_each_format(persistent_store: PersistentStore, folder: Path) -> None:
    """The second run reads nothing; a third one reads what is new. On both stores."""
    for number, (name, write) in enumerate(FORMATS.items()):
        put(folder, f"2026/{name}", write(rows(f"r{number}-1", f"r{number}-2")))
    with Metering.open(persistent_store.url, clock=lambda: NOW) as metering:
        configure(metering)
        first = importer_of(metering, folder).run()
        assert {report.status for report in first.reports} == {ObjectStatus.IMPORTED}
        assert {(report.rows, report.accepted) for report in first.reports} == {(2, 2)}
        assert first.is_complete
        put(folder, "2026/new.csv", csv_of(rows("new")))
        second = importer_of(metering, folder).run()
        assert (len(second.reports), second.imported_before) == (1, len(FORMATS))
        assert counted(metering) == (2 * len(FORMATS) + 1, 2 * len(FORMATS) + 1)
        runs = {run.file: run for run in metering.imports.list()}
        assert {run.recorded for run in runs.values()} == {1, 2}
        assert runs[second.reports[0].url].run_id == second.reports[0].run_id
        assert len(importer_of(metering, folder).reports()) == len(FORMATS) + 1


def test_one_object_can_be_named(metering: Metering, folder: Path) -> None:
    """By its own URL, under which it is the same object."""
    put(folder, "a.csv", csv_of(rows("r1")))
    put(folder, "b.csv", csv_of(rows("r2")))
    assert len(ObjectImporter(metering, f"file://{folder}/a.csv").run().reports) == 1
    assert importer_of(metering, folder).run().imported_before == 1
    assert counted(metering) == (2, 2)


def test_a_replaced_object_is_named_and_never_counted_twice(metering: Metering, folder: Path) -> None:
    """Rows of before are duplicates, rows with another value are in conflict, and new rows are recorded."""
    put(folder, "a.csv", csv_of(rows("r1", "r2")))
    assert not importer_of(metering, folder).run().reports[0].is_changed
    put(folder, "a.csv", csv_of([*rows("r1"), *rows("r2", value=7), *rows("r3")]))
    (report,) = importer_of(metering, folder).run().reports
    assert (report.is_changed, report.accepted, report.duplicate, report.conflict) == (True, 1, 1, 1)
    assert [(row.line, row.identifier, row.code) for row in report.rejected_rows] == [
        (3, "r2", "duplicate_meter_event")
    ]
    assert counted(metering) == (3, 3)
    assert len(importer_of(metering, folder).reports()) == 2


def test_rows_without_identifiers_are_recorded_once(metering: Metering, folder: Path) -> None:
    """Equal rows of an object are different usage, and a copy of it under another name adds nothing."""
    content = csv_of(
        [(TIMESTAMP, "tokens", "acme", 1)] * 3, ("timestamp", "event_name", "payload_customer", "payload_tokens")
    )
    put(folder, "a.csv", content)
    put(folder, "copy.csv", content)
    reports = importer_of(metering, folder).run().reports
    assert sorted((report.accepted, report.duplicate) for report in reports) == [(0, 3), (3, 0)]
    assert counted(metering) == (3, 3)


BOMB = gzip.compress(b"identifier,timestamp\n" * 200_000)
FAILING = {
    "truncated.csv.gz": (
        gzip.compress(csv_of(rows(*map(str, range(500)))))[:-30],
        "it ends in the middle. Store it again",
        0,
    ),
    "truncated.json": (json_of(rows("t1", "t2"))[:-20], "it is not JSON after object 1", 0),
    "truncated.parquet": (FORMATS["f.parquet"](rows("t5"))[:-8], "it is no Parquet file", 0),
    "bomb.csv.gz": (BOMB, "it takes over 1,000,000 bytes when it is unpacked. Divide it", 0),
    "large.csv": (csv_of(rows(*map(str, range(40_000)))), "it has over 1,000,000 bytes. Divide it", 0),
    "long.csv": (csv_of(rows(*(f"l{number}" for number in range(21)))), "it has over 20 rows. Divide it", 0),
    "columns.csv": (b"id,at\n1,2\n", "there are id, at. Name the column that has it: timestamp_column='COLUMN'", 0),
    "notes.txt": (b"hello", "its suffix is not that of a known format", 0),
    "latin.jsonl": (b'{"a": "\xff\x00"}\n', "it contains a zero byte", 0),
}
LIMITS = FileLimits(max_bytes=1_000_000, max_rows=20)


def test_an_object_that_cannot_be_read_affects_no_others(metering: Metering, folder: Path) -> None:
    """Each is reported with what is wrong, and not read again before it is replaced or asked for."""
    for name, (content, _, _) in FAILING.items():
        put(folder, name, content)
    put(folder, "good.csv", csv_of(rows("g1", "g2")))
    result = importer_of(metering, folder, limits=LIMITS).run()
    reports = by_name(result.reports)
    for name, (_, message, recorded) in FAILING.items():
        report = reports[name]
        assert (report.status, report.code) == (ObjectStatus.FAILED, "invalid_import_file"), name
        assert report.message is not None
        assert message in report.message
        assert name in report.message
        assert report.accepted == recorded, name
    assert reports["good.csv"].is_complete
    assert not result.is_complete
    again = importer_of(metering, folder, limits=LIMITS).run()
    assert (again.reports, again.imported_before) == ((), len(FAILING) + 1)
    assert again.incomplete_before == len(FAILING)
    retried = importer_of(metering, folder, limits=FileLimits(10_000_000, 50_000)).run(retry=True)
    complete = {name for name, report in by_name(retried.reports).items() if report.is_complete}
    assert complete == {"large.csv", "long.csv"}


def test_a_malformed_end_costs_no_good_rows(metering: Metering, folder: Path) -> None:
    """The batches before it are recorded; after the object is replaced, the others are."""
    content = json_of(rows(*(f"r{number}" for number in range(BATCH_ROWS + 10))))
    put(folder, "a.json", content[:-20])
    (report,) = importer_of(metering, folder).run().reports
    assert (report.status, report.rows, report.accepted) == (ObjectStatus.FAILED, BATCH_ROWS, BATCH_ROWS)
    put(folder, "a.json", content)
    (report,) = importer_of(metering, folder).run().reports
    assert (report.is_changed, report.accepted, report.duplicate) == (True, 10, BATCH_ROWS)


def test_rejected_rows_are_listed_and_can_be_retried(metering: Metering, folder: Path) -> None:
    """A row with an unclear or invalid cell, and a line that isn't JSON, affect no other rows."""
    lines = [
        *jsonl_of([*rows("r1"), *rows("r2", value="many"), *rows("r3")]).splitlines(keepends=True),
        b"not JSON\n",
        jsonl_of([("r4", "2026-11-10 11:00", "tokens", "acme", 1)]),
        jsonl_of([("r5", TIMESTAMP, "calls", "acme", 1)]),
    ]
    put(folder, "a.jsonl", b"".join(lines))
    (report,) = importer_of(metering, folder).run().reports
    assert (report.status, report.rows, report.accepted, report.rejected) == (ObjectStatus.IMPORTED, 6, 2, 4)
    assert [(row.line, row.identifier, row.code) for row in report.rejected_rows] == [
        (2, "r2", "payload_invalid_value"),
        (4, None, "invalid_import_file"),
        (5, "r4", "invalid_timestamp"),
        (6, "r5", "no_meter"),
    ]
    metering.meters.configure("calls", customer_key="customer", value_key="tokens")
    assert importer_of(metering, folder).run().reports == ()
    (report,) = importer_of(metering, folder).run(retry=True).reports
    assert (report.accepted, report.duplicate, report.rejected) == (1, 2, 3)


def test_names_of_temporary_files_are_ignored(metering: Metering, folder: Path) -> None:
    """Those that begin with a point or an underscore, and those in such folders."""
    for key in ("_SUCCESS", ".a.csv.crc", "_temporary/0/a.csv"):
        put(folder, key, csv_of(rows("x")))
    put(folder, "a.csv", csv_of(rows("r1")))
    result = importer_of(metering, folder).run()
    assert (len(result.reports), result.ignored) == (1, 3)


def test_links_out_of_a_folder_are_not_followed(metering: Metering, folder: Path) -> None:
    """Neither to files nor to folders, nor when a file becomes a link after it was listed. Others are read."""
    outside = folder.parent / "outside"
    put(outside, "secret.csv", csv_of(rows("x")))
    put(folder, "a %2e.csv", csv_of(rows("r1")))
    put(folder, "later.csv", csv_of(rows("r2")))
    for name, target in {
        "file.csv": outside / "secret.csv",
        "files": outside,
        "lost.csv": outside / "lost.csv",
        "inside.csv": folder / "a %2e.csv",
    }.items():
        (folder / name).symlink_to(target)
    importer = importer_of(metering, folder)
    pages = list(importer.bucket.pages())
    (folder / "later.csv").unlink()
    (folder / "later.csv").symlink_to(outside / "secret.csv")
    importer.bucket.pages = lambda: iter(pages)
    result = importer.run()
    statuses = {name: report.code or report.status for name, report in by_name(result.reports).items()}
    assert statuses == {"a %2e.csv": "imported", "inside.csv": "imported", "later.csv": "object_changed"}
    assert result.ignored == 3
    assert counted(metering) == (1, 1)
    named = ObjectImporter(metering, f"file://{folder}/file.csv").run()
    assert named.reports[0].is_complete


def test_loops_of_links_and_odd_names_cost_no_other_file(metering: Metering, folder: Path) -> None:
    """A link that leads back is ignored, and a name that no object can have is reported, once."""
    put(folder, "a.csv", csv_of(rows("r1")))
    put(folder, "deep/b.csv", csv_of(rows("r2")))
    for name, target in {"self": "self", "deep/up": "..", "deep/there": "../back", "copy": "deep"}.items():
        (folder / name).symlink_to(target)
    put(folder, "back/c.csv", csv_of(rows("r3")))
    (folder / "back/again").symlink_to("../deep")
    for name in (b"odd\xff.csv", b"two\nlines.csv"):
        (folder / os.fsdecode(name)).write_bytes(csv_of(rows("x")))
    result = importer_of(metering, folder).run()
    failed = {report.url.rpartition("/")[2]: report.code for report in result.reports if not report.is_complete}
    assert failed == {"odd\\udcff.csv": "invalid_import_file", "two\\nlines.csv": "invalid_import_file"}
    assert counted(metering) == (3, 3)
    again = importer_of(metering, folder).run()
    assert (again.reports, again.incomplete_before, again.ignored) == ((), 2, result.ignored)
    skipped = {file.key for file in local_files(folder) if file.is_skipped}
    assert skipped == {"self", "deep/up", "deep/there/again", "copy/up", "copy/there", "back/again"}


def test_a_folder_that_is_deleted_meanwhile_is_left_out(folder: Path) -> None:
    """The other folders are listed."""
    for key in ("a.csv", "b/b.csv", "c/c.csv"):
        put(folder, key, b"")
    files = local_files(folder)
    assert next(files).key == "a.csv"
    shutil.rmtree(folder / "c")
    assert [file.key for file in files] == ["b/b.csv"]


def test_a_download_is_stopped(metering: Metering, folder: Path) -> None:
    """A large object doesn't hold up the end of a process; the next run reads it."""
    put(folder, "a.csv", csv_of(rows("r1")))
    put(folder, "b.csv", csv_of(rows("r2")))
    importer, stop = importer_of(metering, folder), threading.Event()
    read = importer.bucket.read

    def stop_and_read(*arguments: Any, **options: Any) -> None:
        stop.set()
        read(*arguments, **options)

    importer.bucket.read = stop_and_read
    (report,) = importer.run(stop=stop).reports
    assert (report.status, report.rows, report.code) == (ObjectStatus.IN_PROGRESS, 0, "import_stopped")
    assert counted(metering) == (0, 0)
    result = importer_of(metering, folder).run()
    assert (len(result.reports), result.incomplete_before) == (2, 0)
    assert counted(metering) == (2, 2)


def test_a_stopped_run_goes_on_where_it_was(metering: Metering, folder: Path) -> None:
    """The rows before are not recorded again, and the report counts all of them, in one import."""
    put(folder, "a.csv", csv_of(rows(*(f"r{number}" for number in range(2 * BATCH_ROWS + 10)))))
    stop = threading.Event()
    record_batch = metering.imports.usage.record_batch

    def stop_after_a_batch(*arguments: object, **options: object) -> object:
        stop.set()
        return record_batch(*arguments, **options)  # pyright: ignore[reportArgumentType]

    metering.imports.usage.record_batch = stop_after_a_batch  # pyright: ignore[reportAttributeAccessIssue]
    (report,) = importer_of(metering, folder).run(stop=stop).reports
    assert (report.status, report.accepted, report.code) == (ObjectStatus.IN_PROGRESS, BATCH_ROWS, "import_stopped")
    metering.imports.usage.record_batch = record_batch
    (report,) = importer_of(metering, folder).run().reports
    assert (report.status, report.rows, report.accepted) == (
        ObjectStatus.IMPORTED, 2 * BATCH_ROWS + 10, 2 * BATCH_ROWS + 10,
    )  # fmt: skip
    (run,) = metering.imports.list()
    assert (run.run_id, run.recorded, run.rows) == (report.run_id, 2 * BATCH_ROWS + 10, 2 * BATCH_ROWS + 10)


def test_an_object_that_is_replaced_while_it_is_read_waits_for_the_next_run(metering: Metering, folder: Path) -> None:
    """Only the version that was listed is read."""
    put(folder, "a.csv", csv_of(rows("r1")))
    importer = importer_of(metering, folder)
    pages = list(importer.bucket.pages())
    put(folder, "a.csv", csv_of(rows("r2")))
    importer.bucket.pages = lambda: iter(pages)
    (report,) = importer.run().reports
    assert (report.status, report.code) == (ObjectStatus.UNAVAILABLE, "object_changed")
    assert importer_of(metering, folder).run().reports[0].is_complete
    assert counted(metering) == (1, 1)


def test_one_run_at_a_time_imports_from_a_url(metering: Metering, folder: Path) -> None:
    """Another one does nothing, and says so."""
    put(folder, "a.csv", csv_of(rows("r1")))
    others: list[ObjectImport] = []
    first = importer_of(metering, folder).run(on_report=lambda _: others.append(importer_of(metering, folder).run()))
    assert first.is_locked
    assert [(other.is_locked, other.reports) for other in others] == [(False, ())]


def test_urls_that_cannot_be_used(metering: Metering, folder: Path) -> None:
    """The error names the URL."""
    with pytest.raises(InvalidUsageSource, match="'ftp://a/b' can't be used"):
        ObjectImporter(metering, "ftp://a/b")
    with pytest.raises(InvalidUsageSource, match=f"There is no folder or file {folder}/no such"):
        ObjectImporter(metering, f"file://{folder}/no%20such")
    for url in ("https://example.com/usage", "http://example.com/usage"):
        with pytest.raises(InvalidUsageSource, match=r"has no list of objects\. Name a bucket .* like s3://"):
            ObjectImporter(metering, url)
    with pytest.raises(UsageSourceUnavailable, match=f"There are no objects at file://{folder}"):
        importer_of(metering, folder).run()


def test_an_endpoint_without_encryption_has_to_be_allowed(metering: Metering, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the setting."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.delenv("AWS_ALLOW_HTTP", raising=False)
    with pytest.raises(UsageSourceUnavailable, match="set AWS_ALLOW_HTTP=true to allow that"):
        ObjectImporter(metering, "s3://bucket/usage").run()
