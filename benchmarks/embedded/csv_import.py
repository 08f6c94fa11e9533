"""The import of a CSV file as `tallybook import` does it, compared with a raw insert of the resulting rows."""

import csv
import time
from collections.abc import Iterator
from pathlib import Path

from tallybook.application import Metering
from tallybook.application.usage_import.files import open_usage_file
from tallybook.application.usage_import.importer import UsageImporter
from tallybook.application.usage_import.row_mapper import RowFormat
from tallybook.domain.import_run import STREAM_PREFIX as IMPORT_PREFIX

from .. import workload
from ..bench import LARGE_EVENT_COUNT, Bench
from ..measure import OURS, Measurement, Timings, check_equal, compare, interleave, seconds
from .record import time_inserting

COLUMNS = ("event_name", "identifier", "timestamp", "payload_customer", "payload_tokens")


def import_csv(bench: Bench) -> Iterator[Measurement]:
    """Measure the import of a whole file into an open ledger. It is read twice: first to validate it.

    Skipped above a million rows.
    """
    if bench.events > LARGE_EVENT_COUNT:
        return
    file, size = bench.folder / "usage.csv", workload.BATCH_SIZE
    _write(file, bench.events)
    rows = list(bench.engine.stored_rows(bench.ledger()))

    processor_times: Timings = {OURS: [], bench.engine.insert_name: []}

    def ours() -> float:
        with bench.empty_ledger() as url:
            with workload.open_ledger(url) as metering:
                started_at = time.process_time()
                elapsed = seconds(lambda: _import(metering, file, bench.events))
                processor_times[OURS].append(time.process_time() - started_at)
            stored = [row for row in bench.engine.stored_rows(url) if not row[0].startswith(IMPORT_PREFIX)]
            check_equal("rows imported", stored, rows)
        return elapsed

    def theirs() -> float:
        batches = [rows[first : first + size] for first in range(1, len(rows), size)]
        with bench.empty_ledger() as url:
            started_at = time.process_time()
            elapsed = time_inserting(bench, url, batches)
            processor_times[bench.engine.insert_name].append(time.process_time() - started_at)
        return elapsed

    timings = interleave({OURS: ours, bench.engine.insert_name: theirs}, bench.turns)
    file.unlink()
    yield compare("a CSV in Stripe's columns", timings, bench.events)
    yield compare("a CSV, processor time of the process that records", processor_times, bench.events)


def _write(file: Path, events: int) -> None:
    with file.open("w", encoding="utf-8", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        for batch in workload.batches(events):
            for meter_event in batch:
                at = meter_event["timestamp"].isoformat()
                writer.writerow(
                    (meter_event["event_name"], meter_event["identifier"], at, *meter_event["payload"].values())
                )


def _import(metering: Metering, path: Path, events: int) -> None:
    with open_usage_file(path) as file:
        check_equal("rows accepted", UsageImporter(metering, file, RowFormat()).run().accepted, events)
