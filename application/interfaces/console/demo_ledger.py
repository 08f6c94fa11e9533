"""A ledger to look at: a closed month and the time since, with corrections, a change of rules and late usage.

Everything is recorded as of its own time, so that the ledger has a past to look into.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from ....domain.calendar import CalendarWindow, window_containing
from ...demo_data import CUSTOMER, METERS, DemoEvent, generate_month
from ...metering import Metering

BATCH_SIZE = 1_000
MODELS = ("small", "small", "large", "vision")
_UTC = ZoneInfo("UTC")
_CLOSING_DELAY = timedelta(days=1, hours=9)


class _Clock:
    """A clock that is set to the time of what is recorded next."""

    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at


def demo_month(now: datetime) -> tuple[datetime, datetime]:
    """Return the last calendar month that has ended two days before `now`, or earlier."""
    this_month, _ = window_containing(now - timedelta(days=2), CalendarWindow.MONTH, _UTC)
    return window_containing(this_month - timedelta(seconds=1), CalendarWindow.MONTH, _UTC)


def create_demo_ledger(url: str, checkpoints: Path, now: datetime) -> None:
    """Create the ledger at `url`, where none exists, with two checkpoints."""
    start, end = demo_month(now)
    clock = _Clock(start - timedelta(days=1))
    with Metering.open(url, clock=clock) as metering:
        for event_name, rules in METERS.items():
            dimensions = ["model"] if event_name == "tokens" else []
            metering.meters.configure(event_name, customer_key="customer", dimension_keys=dimensions, **rules)
        events, corrected_at = list(_events(start, "")), start + timedelta(days=21, hours=12)
        _record(metering, clock, (event for event in events if event["timestamp"] < corrected_at))
        _correct(metering, clock, corrected_at)
        _record(metering, clock, (event for event in events if event["timestamp"] >= corrected_at))
        _close(metering, clock, start, end)
        metering.checkpoints.create(checkpoints)
        _record(metering, clock, (event for event in _events(end, "next-") if event["timestamp"] < now))
        metering.checkpoints.create(checkpoints)


def demo_page(url: str) -> str:
    """Return the page of the console to start with: the closed month of a customer."""
    with Metering.open(url) as metering:
        run = metering.periods.runs()[0]
    query = urlencode({"meter": "tokens", "customer": CUSTOMER, "period": f"{run.start:%Y-%m}", "group_by": "model"})
    return f"/console/usage?{query}"


def _events(start: datetime, prefix: str) -> Iterator[DemoEvent]:
    """Yield a month of events, those of tokens with a model."""
    for number, event in enumerate(generate_month(start)):
        payload = event["payload"]
        if event["event_name"] == "tokens":
            payload = {**payload, "model": MODELS[number % len(MODELS)]}
        yield {**event, "identifier": f"{prefix}{event['identifier']}", "payload": payload}


def _record(metering: Metering, clock: _Clock, events: Iterable[DemoEvent]) -> None:
    remaining = iter(events)
    while batch := list(islice(remaining, BATCH_SIZE)):
        clock.at = max(clock.at, batch[-1]["timestamp"] + timedelta(seconds=1))
        metering.record_many(batch)


def _correct(metering: Metering, clock: _Clock, at: datetime) -> None:
    """Record wrong events of two customers and cancel them, and round what is billed of a meter."""
    clock.at = at
    wrong = {"customer": CUSTOMER, "value": "1500000", "model": "large"}
    metering.record("tokens", wrong, identifier="demo-wrong", timestamp=at)
    for number in range(1, 4):
        test = {"customer": "customer-007", "value": "250000", "model": "vision"}
        metering.record("tokens", test, identifier=f"load-test-{number}", timestamp=at + timedelta(seconds=number))
    clock.at = at + timedelta(hours=2)
    metering.cancel("tokens", "demo-wrong", reason="bytes, not tokens", by="ops@example.com")
    for number in range(1, 4):
        metering.cancel("tokens", f"load-test-{number}", reason="sent by a load test", by="ada@example.com")
    metering.rules.change(
        "storage_gb", {"rounding": {"mode": "up", "step": "0.1"}}, reason="the price list is per 0.1 GB",
        by="finance@example.com",
    )  # fmt: skip


def _close(metering: Metering, clock: _Clock, start: datetime, end: datetime) -> None:
    """Close the month on two of the three meters, and report some usage of it too late."""
    clock.at = max(clock.at, end + _CLOSING_DELAY)
    metering.periods.run(start, end, meters=["api_requests", "tokens"], by="finance@example.com")
    late = {"customer": CUSTOMER, "value": "4200", "model": "small"}
    metering.record("tokens", late, identifier="demo-late", timestamp=end - timedelta(hours=2))
