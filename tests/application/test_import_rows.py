"""Import: every row is recorded once, however often and under whatever name the file is imported."""

import gc
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tallybook.application import Metering
from tallybook.application.usage_import.columns import ColumnMapping
from tallybook.application.usage_import.files import open_usage_file
from tallybook.application.usage_import.formats import BATCH_ROWS
from tallybook.application.usage_import.importer import (
    ImportSummary,
    RejectedRow,
    UsageImporter,
    _rare_garbage_collection,  # pyright: ignore[reportPrivateUsage]
)
from tallybook.application.usage_import.row_mapper import RowFormat
from tallybook.domain.errors import InvalidImportFile, MeterNotFound

HEADER = "timestamp,event_name,payload_stripe_customer_id,payload_value"
ROW = "2026-01-01,tokens,acme,5"
ROWS = 2 * BATCH_ROWS + 500
JANUARY = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture
def tokens_ledger(metering: Metering) -> Metering:
    metering.meters.configure("tokens")
    metering.meters.configure("others")
    return metering


def import_text(
    metering: Metering, path: Path, content: str | None = None, columns: ColumnMapping | None = None
) -> ImportSummary:
    if content is not None:
        path.write_text(content)
    with open_usage_file(path) as file:
        return UsageImporter(metering, file, RowFormat(columns or ColumnMapping())).run()


def counts(summary: ImportSummary) -> tuple[int, int, int, int]:
    return summary.accepted, summary.duplicate, summary.conflict, summary.rejected


def event_identifiers(metering: Metering, event_name: str = "tokens") -> list[str]:
    return [event.identifier for event in metering.events(event_name, limit=10_000)]


def total_count(metering: Metering) -> int:
    return metering.total("tokens", None, *JANUARY).count


def test_a_file_is_recorded_once_under_any_name(tokens_ledger: Metering, tmp_path: Path) -> None:
    """Equal rows are different meter events; the rows of the same file, also of a renamed copy, are duplicates."""
    content = "\n".join([HEADER, ROW, ROW, ROW])
    assert counts(import_text(tokens_ledger, tmp_path / "a.csv", content)) == (3, 0, 0, 0)
    assert counts(import_text(tokens_ledger, tmp_path / "a.csv")) == (0, 3, 0, 0)
    assert counts(import_text(tokens_ledger, tmp_path / "copy.csv", content)) == (0, 3, 0, 0)
    assert len(event_identifiers(tokens_ledger)) == 3


def test_one_file_goes_into_several_meters(tokens_ledger: Metering, tmp_path: Path) -> None:
    """Its rows have different identifiers in each meter."""
    for event_name in ("tokens", "others"):
        columns = ColumnMapping(event_name=event_name)
        assert counts(import_text(tokens_ledger, tmp_path / "a.csv", f"{HEADER}\n{ROW}", columns)) == (1, 0, 0, 0)
    assert event_identifiers(tokens_ledger) != event_identifiers(tokens_ledger, "others")


def test_explicit_identifiers_are_used_and_others_are_generated_from_the_rows(
    tokens_ledger: Metering, tmp_path: Path
) -> None:
    """An identifier has the time of usage, a digest of the content and the number of the row among equal ones."""
    rows = [f"{identifier},{ROW}" for identifier in ("", "mine", "", *[""] * 20)]
    summary = import_text(tokens_ledger, tmp_path / "a.csv", "\n".join([f"identifier,{HEADER}", *rows]))
    assert (summary.accepted, summary.generated) == (23, 22)
    identifiers = set(event_identifiers(tokens_ledger)) - {"mine"}
    (beginning,) = {identifier.rpartition("-")[0] for identifier in identifiers}
    assert beginning.startswith("row-2026-01-01-")
    assert {identifier.rpartition("-")[2] for identifier in identifiers} == set(map(str, range(1, 23)))


def test_an_invalid_row_is_rejected_and_the_others_are_recorded(tokens_ledger: Metering, tmp_path: Path) -> None:
    """Rejected rows have their line, outcome and error code, in the order of the file."""
    rows = [
        "a,2026-01-01,tokens,acme,5",
        "b,noon,tokens,acme,5",
        "c,2026-01-01,nothing,acme,5",
        "d,2026-01-01,tokens,acme,1e3",
        "e,2026-01-01,tokens",
        "f,2025-01-01,tokens,acme,5",
        "g,2026-01-01,tokens,,5",
        "a,2026-01-01,tokens,acme,6",
        "h,2026-01-01,,acme,6",
        "a,2026-01-01,tokens,acme,5",
        f"{'x' * 101},2026-01-01,tokens,acme,5",
    ]
    path = tmp_path / "a.csv"
    path.write_text("\n".join([f"identifier,{HEADER}", *rows]))
    rejected_rows: list[RejectedRow] = []
    with open_usage_file(path) as file:
        usage = UsageImporter(tokens_ledger, file, RowFormat(), max_first_rejected=2)
        summary = usage.run(on_rejected=lambda rejected, _row: rejected_rows.append(rejected))
    assert counts(summary) == (1, 1, 1, 8)
    assert [(row.line, (row.identifier or "")[:1], row.outcome, row.error.code) for row in rejected_rows] == [
        (3, "b", "rejected", "invalid_timestamp"),
        (4, "c", "rejected", "no_meter"),
        (5, "d", "rejected", "payload_invalid_value"),
        (6, "", "rejected", "invalid_import_file"),
        (7, "f", "rejected", "timestamp_too_far_in_past"),
        (8, "g", "rejected", "payload_no_customer_defined"),
        (9, "a", "conflict", "duplicate_meter_event"),
        (10, "h", "rejected", "no_meter"),
        (12, "x", "rejected", "invalid_identifier"),
    ]
    assert summary.first_rejected == rejected_rows[:2]


def test_a_rejected_row_can_be_accepted_later(tokens_ledger: Metering, tmp_path: Path) -> None:
    """The rows recorded before are duplicates then."""
    content = f"{HEADER}\n{ROW}\n2026-01-01,later,acme,5\n"
    assert counts(import_text(tokens_ledger, tmp_path / "a.csv", content)) == (1, 0, 0, 1)
    tokens_ledger.meters.configure("later")
    assert counts(import_text(tokens_ledger, tmp_path / "a.csv")) == (1, 1, 0, 0)


def test_rows_are_counted_over_many_batches(tokens_ledger: Metering, tmp_path: Path) -> None:
    """Line and row numbers continue from batch to batch. Progress is reported in bytes, and not for each 8 KB."""
    count = 2 * BATCH_ROWS + 1
    path = tmp_path / "a.csv"
    path.write_text("\n".join([HEADER, *[ROW] * count, "noon,tokens,acme,5"]))
    progress: list[tuple[int, int]] = []

    def report_progress(read: int, size: int) -> None:
        progress.append((read, size))

    with open_usage_file(path) as file:
        summary = UsageImporter(tokens_ledger, file, RowFormat()).run(advance=report_progress)
    assert counts(summary) == (count, 0, 0, 1)
    assert [row.line for row in summary.first_rejected] == [count + 2]
    assert total_count(tokens_ledger) == count
    assert progress[-1] == (path.stat().st_size,) * 2
    assert len(progress) < path.stat().st_size / 8_192


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_an_interrupted_import_resumes_with_the_same_result(
    tokens_ledger: Metering, tmp_path: Path, batches: int
) -> None:
    """The rows recorded before are duplicates, and the others are added."""
    path = tmp_path / "a.csv"
    path.write_text("\n".join([HEADER, *[ROW] * ROWS]))

    def stop(_read: int, _size: int) -> None:
        if total_count(tokens_ledger) == batches * BATCH_ROWS:
            raise KeyboardInterrupt

    with open_usage_file(path) as file:
        usage = UsageImporter(tokens_ledger, file, RowFormat())
        with pytest.raises(KeyboardInterrupt):
            usage.run(advance=stop)
    assert usage.summary.accepted == batches * BATCH_ROWS
    assert counts(import_text(tokens_ledger, path)) == (ROWS - batches * BATCH_ROWS, batches * BATCH_ROWS, 0, 0)
    assert total_count(tokens_ledger) == ROWS


def test_a_missing_column_rejects_the_file_with_nothing_recorded(tokens_ledger: Metering, tmp_path: Path) -> None:
    """The error names the missing column and the existing ones."""
    with pytest.raises(
        InvalidImportFile, match="there is no column 'when'; there are timestamp, event_name"
    ) as exc_info:
        import_text(tokens_ledger, tmp_path / "a.csv", f"{HEADER}\n{ROW}", ColumnMapping(timestamp="when"))
    assert exc_info.value.field == "when"
    assert event_identifiers(tokens_ledger) == []


def test_the_meter_for_all_rows_must_exist(tokens_ledger: Metering, tmp_path: Path) -> None:
    """The import is rejected once, not for each row."""
    with pytest.raises(MeterNotFound):
        import_text(tokens_ledger, tmp_path / "a.csv", f"{HEADER}\n{ROW}", ColumnMapping(event_name="nothing"))


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl"])
def test_all_formats_give_the_same_totals(tokens_ledger: Metering, tmp_path: Path, suffix: str) -> None:
    """JSON numbers are exact: three times 0.1 is 0.3."""
    line = '{"timestamp": 1767225600, "event_name": "tokens", "payload": {"stripe_customer_id": "acme", "value": 0.1}}'
    contents = {
        "csv": "\n".join([HEADER, *["1767225600,tokens,acme,0.1"] * 3]),
        "json": f"[{line}, {line}, {line}]",
        "jsonl": f"{line}\n{line}\n{line}\n",
    }
    assert counts(import_text(tokens_ledger, tmp_path / f"a.{suffix}", contents[suffix])) == (3, 0, 0, 0)
    (total,) = tokens_ledger.totals("tokens", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))
    assert str(total.value) == "0.3"


def test_imports_at_once_leave_garbage_collection_as_it_was() -> None:
    """A server runs several in threads, and they end in any order."""
    before = gc.get_threshold()
    first, second = _rare_garbage_collection(), _rare_garbage_collection()
    with first:
        second.__enter__()
        assert gc.get_threshold() != before
    second.__exit__(None, None, None)
    assert gc.get_threshold() == before
