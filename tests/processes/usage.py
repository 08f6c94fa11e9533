"""The meter events that programs and tests record, and the query of their totals."""

from datetime import UTC, datetime

from tallybook.application import AcceptancePolicy, Metering

START = datetime(2026, 10, 1, tzinfo=UTC)
END = datetime(2026, 11, 1, tzinfo=UTC)
BATCH_SIZE = 50
VALUE = 3


def open_ledger(url: str) -> Metering:
    """Return the ledger at `url`, with its one meter."""
    metering = Metering.open(url, policy=AcceptancePolicy(max_age=None))
    metering.meters.configure("tokens", customer_key="customer")
    return metering


def batch(writer: str, number: int, size: int = BATCH_SIZE) -> list[dict[str, object]]:
    """Return one batch of meter events. An identifier names the writer, the batch, and the index in the batch."""
    return [
        {
            "event_name": "tokens",
            "identifier": f"{writer}/{number:05d}/{index:03d}",
            "timestamp": START,
            "payload": {"customer": "acme", "value": str(VALUE)},
        }
        for index in range(size)
    ]


def count_and_sum(metering: Metering) -> tuple[int, int]:
    """Return count and sum of all usage."""
    total = metering.total("tokens", None, START, END)
    return total.count, int(total.sum)


def print_line(*values: object) -> None:
    """Print a line for the parent process, and flush it."""
    print(*values, flush=True)  # noqa: T201
