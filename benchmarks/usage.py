"""The usage that is measured with: a month of 200 customers, in the order of time, the same in every run."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tallybook.application import Metering

START = datetime(2026, 10, 1, tzinfo=UTC)
END = datetime(2026, 11, 1, tzinfo=UTC)
CUSTOMERS = tuple(f"customer-{number:03d}" for number in range(200))
BATCH = 1_000

Reports = list[dict[str, object]]


def batches(events: int) -> Iterator[Reports]:
    """`events` reports in batches of 1,000, evenly over the month, with identifiers in their order."""
    rng = random.Random(events)
    step = (END - START) / events
    for first in range(0, events, BATCH):
        yield [
            {
                "event_name": "tokens",
                "identifier": f"req-{number:010d}",
                "timestamp": START + number * step,
                "payload": {"customer": rng.choice(CUSTOMERS), "tokens": str(rng.randrange(1, 2_000))},
            }
            for number in range(first, min(first + BATCH, events))
        ]


def opened(file: Path) -> Metering:
    """The ledger in `file`, with its meter; the clock stands still at the end of the month."""
    metering = Metering.open(f"sqlite:///{file}", clock=lambda: END + timedelta(hours=1))
    metering.configure_meter("tokens", customer_key="customer", value_key="tokens")
    return metering


def record(file: Path, events: int) -> None:
    """A ledger of `events` reports."""
    with opened(file) as metering:
        for batch in batches(events):
            metering.record_many(batch)


def delete(file: Path) -> None:
    """Delete a database, if it is there, and what SQLite keeps beside it."""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{file}{suffix}").unlink(missing_ok=True)


def views_of(file: Path) -> Path:
    """The read models of a ledger."""
    return Path(f"{file}.views")
