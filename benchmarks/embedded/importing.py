"""Importing a CSV as `tallybook import` does, against the engine's own way to write the rows that come of it."""

import csv
from collections.abc import Iterator
from pathlib import Path

from tallybook.application.importing import UsageImport
from tallybook.application.usage_columns import Columns
from tallybook.application.usage_files import open_usage_file

from .. import usage
from ..bench import LARGE, Bench
from ..measure import OURS, Measured, agree, compared, in_turns, seconds
from .recording import inserted

COLUMNS = ("event_name", "identifier", "timestamp", "payload_customer", "payload_tokens")


def import_csv(bench: Bench) -> Iterator[Measured]:
    """All of a file, read twice as ever: once to know that it is whole. Not of more than a million rows."""
    if bench.events > LARGE:
        return
    file, size = bench.folder / "usage.csv", usage.BATCH
    _write(file, bench.events)
    rows = list(bench.engine.stored_rows(bench.ledger()))

    def ours() -> float:
        with bench.empty_ledger() as url:
            took = seconds(lambda: _import(url, file, bench.events))
            agree("rows imported", list(bench.engine.stored_rows(url)), rows)
        return took

    def theirs() -> float:
        with bench.empty_ledger() as url:
            return inserted(bench, url, [rows[first : first + size] for first in range(1, len(rows), size)])

    took = in_turns({OURS: ours, bench.engine.insert_name: theirs}, bench.turns)
    file.unlink()
    yield compared("a CSV in Stripe's columns", took, bench.events)


def _write(file: Path, events: int) -> None:
    with file.open("w", encoding="utf-8", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        for batch in usage.batches(events):
            for use in batch:
                at = use["timestamp"].isoformat()
                writer.writerow((use["event_name"], use["identifier"], at, *use["payload"].values()))


def _import(url: str, path: Path, events: int) -> None:
    with usage.opened(url) as metering, open_usage_file(path) as file:
        agree("rows accepted", UsageImport(metering, file, Columns()).run().accepted, events)
