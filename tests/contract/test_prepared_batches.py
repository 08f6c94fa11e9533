"""Imports on each store: the next batch is prepared while one is inserted, and recorded as if it were not."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tallybook.application import Metering
from tallybook.application.commands import usage as usage_commands
from tallybook.application.commands.receipts import Decision, build_receipts
from tallybook.application.commands.usage import PreparedMeterEvents
from tallybook.application.results import Receipts
from tallybook.application.storage.overlapped_work import overlapped_work, take_overlapped_work
from tallybook.application.usage_import.files import ProgressCallback
from tallybook.application.usage_import.formats import FileDialect, FileFormat, Row, RowBatch
from tallybook.application.usage_import.importer import UsageImporter
from tallybook.application.usage_import.results import ImportSummary
from tallybook.application.usage_import.row_mapper import RowFormat
from tallybook.domain.errors import InvalidImportFile, LedgerUnavailable

from ..waiting import wait_until
from .persistent_stores import PostgresSchema
from .stores import Store

COLUMNS: Sequence[str] = ("timestamp", "event_name", "identifier", "payload_stripe_customer_id", "payload_value")
DIALECT = FileDialect(FileFormat.CSV)


@dataclass
class Batches:
    """A checked file with these batches: of identifiers and values, or an error to raise."""

    batches_or_errors: Sequence[Sequence[tuple[str, str]] | Exception]
    columns: Sequence[str] = COLUMNS
    path: Path = Path("usage.csv")
    dialect: FileDialect = DIALECT
    digest: bytes = bytes(32)

    def batches(self, advance: ProgressCallback) -> Iterator[RowBatch]:
        line = 1
        for number, batch in enumerate(self.batches_or_errors, 1):
            if isinstance(batch, Exception):
                raise batch
            advance(number, len(self.batches_or_errors))
            rows: list[Row] = []
            for identifier, value in batch:
                cells = dict(zip(COLUMNS, ("2026-10-05T10:00:00Z", "tokens", identifier, "acme", value), strict=True))
                rows.append(Row(line := line + 1, {column: cells[column] for column in self.columns}, 50))
            yield RowBatch(rows)


def import_batches(
    metering: Metering,
    *batches: Sequence[tuple[str, str]] | Exception,
    advance: ProgressCallback | None = None,
    columns: Sequence[str] = COLUMNS,
) -> tuple[ImportSummary, Exception | None]:
    """Import batches. Return the summary, and the error that ended the import."""
    importer = UsageImporter(metering, Batches(batches, columns), RowFormat(), is_checked=True)  # type: ignore[arg-type]
    try:
        importer.run(advance=advance)
    except Exception as error:
        return importer.summary, error
    return importer.summary, None


def one_each(*identifiers: str) -> list[tuple[str, str]]:
    return [(identifier, "1") for identifier in identifiers]


def recorded(metering: Metering) -> list[str]:
    return [event.identifier for event in metering.events("tokens", limit=100)]


@pytest.fixture
def tokens_ledger(metering: Metering) -> Metering:
    metering.meters.configure("tokens")
    return metering


def has_inserted(store: PostgresSchema) -> bool:
    """Return whether a session of this store has executed its insert, and waits for the next statement."""
    with closing(store.database.connect()) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' AND query LIKE %s",
            (f'INSERT INTO "{store.schema}".stored_events%',),
        ).fetchone()
    return row == (1,)


def prepared_sizes(metering: Metering, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes of the batches that will be recorded prepared."""
    sizes: list[int] = []
    usage = metering.imports.usage
    record_batch = usage.record_batch

    def count_prepared(meter_events: Sequence[object], **options: object) -> object:
        if isinstance(meter_events, PreparedMeterEvents):
            sizes.append(len(meter_events))
        return record_batch(meter_events, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(usage, "record_batch", count_prepared)
    return sizes


def test_batches_after_the_first_are_prepared_on_postgresql(
    tokens_ledger: Metering, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite inserts in this process, so that there is nothing to wait for."""
    sizes = prepared_sizes(tokens_ledger, monkeypatch)
    summary, error = import_batches(tokens_ledger, one_each("a"), one_each("b", "c"), one_each("d"))
    assert (summary.accepted, error, recorded(tokens_ledger)) == (4, None, ["a", "b", "c", "d"])
    assert sizes == ([2, 1] if isinstance(store, PostgresSchema) else [])


def test_receipts_are_made_only_if_they_are_needed(tokens_ledger: Metering, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first five rows are shown, so their batches have receipts, and a batch with a row that isn't new."""
    made: list[int] = []

    def count_receipts(decisions: Sequence[Decision], *others: Any) -> Receipts:
        made.append(len(decisions))
        return build_receipts(decisions, *others)

    monkeypatch.setattr(usage_commands, "build_receipts", count_receipts)
    batches = [one_each("a", "b", "c", "d", "e"), one_each("f"), one_each("g", "a")]
    summary, error = import_batches(tokens_ledger, *batches)
    assert (summary.accepted, summary.duplicate, error) == (7, 1, None)
    assert made == [5, 2]


def test_an_identifier_of_the_batch_before_is_a_duplicate_or_a_conflict(tokens_ledger: Metering) -> None:
    """A batch is prepared before the one before it is stored, and compared after it."""
    summary, error = import_batches(
        tokens_ledger, one_each("a", "b"), [("a", "1"), ("b", "2"), ("c", "1")], one_each("c", "d")
    )
    assert (summary.accepted, summary.duplicate, summary.conflict, error) == (4, 2, 1, None)
    assert [(row.line, row.identifier, row.error.code) for row in summary.first_rejected] == [
        (5, "b", "duplicate_meter_event")
    ]
    assert recorded(tokens_ledger) == ["a", "b", "c", "d"]


def test_rejected_rows_are_reported_in_order(tokens_ledger: Metering, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch with rows that the meter, or the mapping, rejects isn't prepared; those around it are not affected."""
    sizes = prepared_sizes(tokens_ledger, monkeypatch)
    too_many_digits = ("b", "1234567890123456")
    summary, error = import_batches(
        tokens_ledger, one_each("a"), [too_many_digits, ("c", "1")], [("d", "1"), ("e", "many")], one_each("f")
    )
    assert (summary.accepted, summary.rejected, error) == (4, 2, None)
    assert [(row.line, row.identifier) for row in summary.first_rejected] == [(3, "b"), (6, "e")]
    assert recorded(tokens_ledger) == ["a", "c", "d", "f"]
    assert sizes in ([], [1])


def test_nothing_is_recorded_after_a_batch_that_fails(tokens_ledger: Metering, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is prepared is dropped. The same import can be repeated."""
    batches = one_each("a"), one_each("b"), one_each("c"), one_each("d")
    ledger = tokens_ledger.imports.ledger
    append = ledger.append_meter_events
    calls: list[object] = []

    def fail_the_second_time(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) != 2:
            return append(*arguments)  # pyright: ignore[reportArgumentType]
        prepare = take_overlapped_work()
        assert prepare is not None
        prepare()
        raise LedgerUnavailable("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "append_meter_events", fail_the_second_time)
        summary, error = import_batches(tokens_ledger, *batches)
    assert (summary.accepted, type(error), recorded(tokens_ledger)) == (1, LedgerUnavailable, ["a"])
    summary, error = import_batches(tokens_ledger, *batches)
    assert (summary.accepted, summary.duplicate, error) == (3, 1, None)


def test_a_meter_that_changes_after_a_batch_was_prepared_decides_it(tokens_ledger: Metering) -> None:
    """The decisions that were made before are made again."""

    def deactivate_before_the_second_batch(read: int, _size: int) -> None:
        if read == 3 and tokens_ledger.meters.get("tokens").status == "active":
            tokens_ledger.meters.deactivate("tokens")

    summary, error = import_batches(
        tokens_ledger, one_each("a"), one_each("b"), one_each("c"), advance=deactivate_before_the_second_batch
    )
    assert (summary.accepted, summary.rejected, error) == (1, 2, None)
    assert {row.error.code for row in summary.first_rejected} == {"archived_meter"}


def test_rows_without_identifiers_are_named_once(tokens_ledger: Metering) -> None:
    """Equal rows of several batches are further occurrences, and the same ones when the file is imported again."""
    batches = [("", "1")] * 2, [("", "1")], [("", "1"), ("", "2")]
    columns = tuple(column for column in COLUMNS if column != "identifier")
    summary, _ = import_batches(tokens_ledger, *batches, columns=columns)
    assert (summary.accepted, summary.generated) == (5, 5)
    again, _ = import_batches(tokens_ledger, *batches, columns=columns)
    assert (again.duplicate, again.generated_duplicates) == (5, 5)


def test_an_error_of_the_file_ends_the_import_after_the_batch_before_it(tokens_ledger: Metering) -> None:
    """Also if a batch is read ahead; an error of the caller ends it at once."""
    error = InvalidImportFile("usage.csv, line 4: it is not CSV.", field="file")
    summary, raised = import_batches(tokens_ledger, one_each("a"), one_each("b"), error)
    assert (summary.accepted, raised, recorded(tokens_ledger)) == (2, error, ["a", "b"])

    calls: list[int] = []

    def stop(read: int, _size: int) -> None:
        calls.append(read)
        if calls == [1, 2]:
            raise RuntimeError("stopped")

    summary, raised = import_batches(tokens_ledger, one_each("c"), one_each("d"), advance=stop)
    assert (summary.rows, type(raised)) == (0, RuntimeError)


def test_work_is_done_while_the_server_executes_the_insert(postgres_store: PostgresSchema) -> None:
    """The whole statement is sent before, also if it is longer than the buffers of the socket."""
    calls: list[int] = []

    def wait_for_the_server() -> None:
        calls.append(metering.imports.ledger.head())
        wait_until(lambda: has_inserted(postgres_store))

    with postgres_store.metering() as metering:
        metering.meters.configure("tokens")
        payload = {"stripe_customer_id": "acme", "value": "1", "note": "x" * 5_000}
        events = [{"event_name": "tokens", "identifier": str(number), "payload": payload} for number in range(500)]
        with overlapped_work(wait_for_the_server):
            assert metering.record_many(events).accepted == 500
    assert calls == [1]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_nothing_is_recorded_if_the_work_fails(postgres_store: PostgresSchema, error: type[BaseException]) -> None:
    """An interrupt arrives in it, for example. The connection is replaced."""

    def fail() -> None:
        raise error

    with postgres_store.metering() as metering:
        metering.meters.configure("tokens")
        event = {"event_name": "tokens", "identifier": "a", "payload": {"stripe_customer_id": "acme", "value": "1"}}
        with pytest.raises(error), overlapped_work(fail):
            metering.record_many([event])
        assert recorded(metering) == []
        assert metering.record_many([event]).accepted == 1
