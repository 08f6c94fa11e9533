"""What the programs and the tests record, and how they ask for it."""

from datetime import UTC, datetime

from tallybook.application import AcceptancePolicy, Metering

START = datetime(2026, 10, 1, tzinfo=UTC)
END = datetime(2026, 11, 1, tzinfo=UTC)
BATCH_SIZE = 50
VALUE = 3


def open_ledger(url: str) -> Metering:
    """The ledger at `url`, with its one meter."""
    metering = Metering.open(url, policy=AcceptancePolicy(max_age=None))
    metering.meters.configure("tokens", customer_key="customer")
    return metering


def batch(writer: str, number: int, size: int = BATCH_SIZE) -> list[dict[str, object]]:
    """One batch of reports. Its identifiers tell the writer, the batch, and the place in it."""
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
    """Count and sum of all usage."""
    total = metering.total("tokens", None, START, END)
    return total.count, int(total.sum)


def print_line(*values: object) -> None:
    """Say something to whoever started this program, at once."""
    print(*values, flush=True)  # noqa: T201
