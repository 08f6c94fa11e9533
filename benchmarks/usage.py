"""The usage that is measured with: a month of 200 customers, in the order of time, the same in every run.

What a report says follows from its number and from how many there are. Customers report evenly; but the first one
reports 1,000 times in all, however many reports there are, so that a period of 1,000 events is there at every size.
"""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TypedDict

from tallybook.application import Metering

METER = "tokens"
START = datetime(2026, 10, 1, tzinfo=UTC)
END = datetime(2026, 11, 1, tzinfo=UTC)
RECORDED_AT = END + timedelta(hours=1)
INSTANT = timedelta(microseconds=1)
CUSTOMERS = tuple(f"customer-{number:03d}" for number in range(200))
SELDOM = CUSTOMERS[0]
SELDOM_REPORTS = 1_000
BATCH = 1_000

_SCATTER = 0x9E3779B1
"""Odd, and without a pattern in its bits: multiplying by it scatters numbers that follow one another."""


class Use(TypedDict):
    """A report."""

    event_name: str
    identifier: str
    timestamp: datetime
    payload: dict[str, str]


Reports = list[Use]


def reports(numbers: range, events: int, *, ordered: bool = True) -> Reports:
    """The reports of these numbers among `events`; with identifiers in their order, or in no order."""
    step = (END - START) / events
    return [
        {
            "event_name": METER,
            "identifier": identifier(number) if ordered else _random(number),
            "timestamp": START + number * step,
            "payload": {"customer": _customer(number, events), "tokens": str(_tokens(number))},
        }
        for number in numbers
    ]


def batches(events: int, size: int = BATCH, *, ordered: bool = True) -> Iterator[Reports]:
    """All of `events` reports, in batches."""
    for first in range(0, events, size):
        yield reports(range(first, min(first + size, events)), events, ordered=ordered)


def after_the_month(numbers: range) -> Reports:
    """Reports more, with these numbers, which occurred one after another once the month was over."""
    return [
        {**use, "timestamp": END + number * INSTANT}
        for number, use in zip(numbers, reports(numbers, numbers.stop), strict=True)
    ]


def of_seldom(events: int) -> list[tuple[int, Decimal]]:
    """The number and the tokens of each report of the customer who reports seldom."""
    every = _every(events)
    return [(number, Decimal(_tokens(number))) for number in range(0, events, every)][:SELDOM_REPORTS]


def identifier(number: int) -> str:
    """The identifier of a report, where they are ordered."""
    return f"req-{number:010d}"


def position(number: int) -> int:
    """Where a ledger holds the report of this number, recorded in order after the meter."""
    return number + 2


def opened(url: str) -> Metering:
    """The ledger at `url`, with its meter; the clock stands still at an hour after the month."""
    metering = Metering.open(url, clock=lambda: RECORDED_AT)
    metering.configure_meter(METER, customer_key="customer", value_key="tokens")
    return metering


def _customer(number: int, events: int) -> str:
    every = _every(events)
    if number % every == 0 and number < every * SELDOM_REPORTS:
        return SELDOM
    return CUSTOMERS[1 + (number * _SCATTER % 2**32) * (len(CUSTOMERS) - 1) // 2**32]


def _tokens(number: int) -> int:
    return 1 + number * 7_919 % 1_999


def _random(number: int) -> str:
    return hashlib.blake2b(number.to_bytes(8, "big"), digest_size=16).hexdigest()


def _every(events: int) -> int:
    return max(2, events // SELDOM_REPORTS)
