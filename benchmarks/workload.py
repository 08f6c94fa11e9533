"""The workload: meter events of 200 customers in one month, in order of time, equal in every run.

The content of a meter event depends on its number and on the number of all meter events. They are spread evenly over
the customers, except that the first customer has 1,000 meter events at every size, so that all sizes have a period of
1,000 events.
"""

import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypedDict

from tallybook.application import AcceptancePolicy, Metering

METER = "tokens"
START = datetime(2026, 10, 1, tzinfo=UTC)
END = datetime(2026, 11, 1, tzinfo=UTC)
RECORDED_AT = END + timedelta(hours=1)
INSTANT = timedelta(microseconds=1)
CUSTOMERS = tuple(f"customer-{number:03d}" for number in range(200))
LOW_VOLUME_CUSTOMER = CUSTOMERS[0]
LOW_VOLUME_EVENTS = 1_000
BATCH_SIZE = 1_000
POLICY = AcceptancePolicy(max_customer_combinations=None, max_meter_combinations=None)
"""Without limits on combinations of dimension values."""

SCATTER = 0x9E3779B1
"""An odd multiplier without a pattern in its bits, which scatters consecutive numbers (Fibonacci hashing)."""


class MeterEvent(TypedDict):
    """A meter event, as `record` accepts it."""

    event_name: str
    identifier: str
    timestamp: datetime
    payload: dict[str, str]


MeterEvents = list[MeterEvent]


def meter_events(numbers: range, events: int, *, ordered: bool = True) -> MeterEvents:
    """Return the meter events with these numbers out of `events`. Identifiers ascend if `ordered`, else are random."""
    step = (END - START) / events
    return [
        {
            "event_name": METER,
            "identifier": identifier(number) if ordered else _random(number),
            "timestamp": START + number * step,
            "payload": {"customer": _customer(number, events), "tokens": str(tokens(number))},
        }
        for number in numbers
    ]


def batches(events: int, size: int = BATCH_SIZE, *, ordered: bool = True) -> Iterator[MeterEvents]:
    """Yield all meter events in batches."""
    for first in range(0, events, size):
        yield meter_events(range(first, min(first + size, events)), events, ordered=ordered)


def events_after_the_month(numbers: range) -> MeterEvents:
    """Return additional meter events with these numbers, with consecutive timestamps after the month."""
    return [
        {**meter_event, "timestamp": END + number * INSTANT}
        for number, meter_event in zip(numbers, meter_events(numbers, numbers.stop), strict=True)
    ]


def low_volume_events(events: int) -> list[tuple[int, Decimal]]:
    """Return the number and the tokens of each meter event of the low-volume customer."""
    interval = _low_volume_interval(events)
    return [(number, Decimal(tokens(number))) for number in range(0, events, interval)][:LOW_VOLUME_EVENTS]


def identifier(number: int) -> str:
    """Return the identifier of a meter event if identifiers are ordered."""
    return f"req-{number:010d}"


def position(number: int) -> int:
    """Return the ledger position of a meter event if all were recorded in order after the meter."""
    return number + 2


def open_ledger(url: str, dimension_keys: Sequence[str] = ()) -> Metering:
    """Open the ledger at `url` and configure its meter. The clock is fixed at an hour after the month."""
    metering = Metering.open(url, policy=POLICY, clock=lambda: RECORDED_AT)
    metering.meters.configure(METER, customer_key="customer", value_key="tokens", dimension_keys=dimension_keys)
    return metering


def scatter(number: int, count: int, multiplier: int = SCATTER) -> int:
    """Return a number from 0 to `count` - 1, without a pattern for consecutive numbers."""
    return (number * multiplier % 2**32) * count // 2**32


def tokens(number: int) -> int:
    """Return the tokens of a meter event."""
    return 1 + number * 7_919 % 1_999


def _customer(number: int, events: int) -> str:
    interval = _low_volume_interval(events)
    if number % interval == 0 and number < interval * LOW_VOLUME_EVENTS:
        return LOW_VOLUME_CUSTOMER
    return CUSTOMERS[1 + scatter(number, len(CUSTOMERS) - 1)]


def _random(number: int) -> str:
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=16).hexdigest()


def _low_volume_interval(events: int) -> int:
    return max(2, events // LOW_VOLUME_EVENTS)
