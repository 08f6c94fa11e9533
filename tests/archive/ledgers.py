"""Ledgers to archive, and what an archive of them must contain."""

import hashlib
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from obstore.store import ObjectStore
from tallybook.application import AcceptancePolicy, Archive, Metering
from tallybook.application.archive.arrow import parquet
from tallybook.application.archive.destinations import Destination
from tallybook.application.archive.export import Exporter
from tallybook.application.archive.locations import resolve_destination
from tallybook.application.archive.results import ArchiveExport
from tallybook.application.archive.segment_file import table_rows
from tallybook.application.ledger.ledger import Ledger
from tallybook.application.storage.ports import PositionedEventRow
from tallybook.application.storage.url import resolve_store

Location = str | Path | ObjectStore
NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
POLICY = AcceptancePolicy(max_age=None, max_ahead=None, cancel_window=None)


def open_metering(url: str) -> Metering:
    """Open a ledger with a fixed clock and without limits."""
    return Metering.open(url, policy=POLICY, clock=lambda: NOW)


def record(url: str, first: int, last: int) -> None:
    """Record the meter events `req-FIRST` to `req-LAST`, and configure their meter if it doesn't exist."""
    with open_metering(url) as metering:
        metering.meters.configure("tokens", customer_key="customer", value_key="tokens")
        metering.record_many(
            {
                "event_name": "tokens",
                "identifier": f"req-{number}",
                "timestamp": NOW - timedelta(seconds=number),
                "payload": {"customer": f"customer-{number % 7}", "tokens": f"{number}.5"},
            }
            for number in range(first, last + 1)
        )


def record_every_kind(metering: Metering) -> None:
    """Record events of meters, imports, periods, billing runs, cancellations and access keys."""
    metering.meters.configure("tokens", customer_key="customer", optional_dimension_keys=["region"])
    metering.meters.configure("meter/strange é", formula="count", customer_key="customer")
    metering.meters.rename("tokens", "Tokens")
    start = NOW - timedelta(days=40)
    for number in range(8):
        region = {"region": "eu"} if number % 2 else {}
        metering.record(
            "tokens", {"customer": "acme", "value": f"{number}", **region}, identifier=f"req-{number}", timestamp=start
        )
    metering.record("meter/strange é", {"customer": 'a"\\\n\u2028😀'}, identifier="odd", timestamp=start)
    metering.cancel("tokens", "req-1", reason="wrong", by="ops")
    metering.revoke_cancel("tokens", "req-1", reason="right")
    metering.cancel("tokens", "req-2")
    bulk = metering.cancellations.cancel_many("tokens", identifier_prefix="req-3", reason="sent by a test")
    metering.cancellations.revoke(bulk.cancellation_id, reason="was right")
    metering.periods.close("tokens", "acme", start - timedelta(days=1), start + timedelta(days=1))
    metering.access_keys.create(["read"], "reader")
    metering.meters.deactivate("meter/strange é")


def stored_rows(url: str) -> Sequence[PositionedEventRow]:
    """Return all rows of a ledger."""
    with closing(Ledger(resolve_store(url))) as ledger:
        return ledger.stored_rows(1, ledger.head())


class EarlierLedger(Ledger):
    """A ledger that ends at the position `earlier_head`, unless that is None, and grows after the first call."""

    earlier_head: int | None = None

    def head(self) -> int:
        """Return the position of the last event."""
        head, self.earlier_head = self.earlier_head, None
        return super().head() if head is None else head


def export(url: str, destination: object, block_size: int = 1 << 20, head: int | None = None) -> ArchiveExport:
    """Export a ledger, or what it had at an earlier head, in segments of up to `block_size` events."""
    return export_to(resolve_destination(destination), url, block_size, head)


def export_to(destination: Destination, url: str, block_size: int = 1 << 20, head: int | None = None) -> ArchiveExport:
    """Export a ledger to an open destination."""
    with closing(EarlierLedger(resolve_store(url))) as ledger:
        ledger.earlier_head = head
        return Exporter(ledger, destination, lambda _done, _total: None, block_size).run()


def archived_rows(destination: Location) -> list[PositionedEventRow]:
    """Return the rows of the segments that the manifest names, in order."""
    resolved = resolve_destination(destination)
    rows: list[PositionedEventRow] = []
    for segment in Archive.open(destination).segments:
        with resolved.open_segment(segment.file) as file:
            rows += table_rows(parquet.read_table(file))
    return rows


def rows_of_all_files(folder: Path) -> list[PositionedEventRow]:
    """Return the rows of all Parquet files of a folder, as a program reads them that ignores the manifest."""
    files = sorted(folder.glob("events/*.parquet"))
    return [row for file in files for row in table_rows(parquet.read_table(file))]


def copy_archive(source: Path, target: Path) -> Path:
    """Copy an archive."""
    (target / "events").mkdir(parents=True)
    for file in [source / "manifest.jsonl", *source.glob("events/*.parquet")]:
        (target / file.relative_to(source)).write_bytes(file.read_bytes())
    return target


def digest(file: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
