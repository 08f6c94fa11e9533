"""A desk without a server around it, whose clock is put forward by hand."""

from collections.abc import Callable, Sequence
from copy import copy
from datetime import timedelta
from typing import Any, cast

import msgspec
from tallybook.application import Metering
from tallybook.application.server.credentials import Gate
from tallybook.application.server.desk import Desk
from tallybook.application.server.refused_events import rows_of
from tallybook.application.server.webhooks.event_types import THIN
from tallybook.application.server.webhooks.events import EventV2
from tallybook.application.server.webhooks.settings import WebhookSettings
from tallybook.application.server.webhooks.stored_events import newest
from tallybook.domain.report import Report

from tests.notation import Clock

SETTINGS = WebhookSettings()


def desk_of(metering: Metering) -> Desk:
    """The live desk of a ledger."""
    return Desk(metering, Gate(metering), livemode=True)


def forward(desk: Desk, **by: float) -> None:
    """Put the clock forward."""
    cast(Clock, desk.metering.clock).now += timedelta(**by)


def refuse(desk: Desk, *identifiers: str, event_name: str = "tokens", value: str = "much") -> None:
    """A stream brings events that can't be counted."""
    reports = [Report(event_name, {"customer": "a", "value": value}, identifier, None) for identifier in identifiers]

    def beside(receipts: Sequence[Any], at: Any) -> Any:
        pairs = zip(reports, receipts, strict=True)
        return [row for report, one in pairs for row in rows_of(report, one.error, at, "req_1", None)]

    desk.metering.record_beside(reports, beside)


class Interrupted:
    """A desk of the same ledger, at which others do something right before it changes what is kept, once each."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk_of(desk.metering)
        self.before_change: list[Callable[[], object]] = []
        change = self.desk.keeper.change
        keeper = copy(self.desk.keeper)

        def changed(**kwargs: Any) -> None:
            if self.before_change:
                self.before_change.pop()()
            change(**kwargs)

        keeper.change = changed  # type: ignore[method-assign]
        self.desk.keeper = keeper


def thin_events(desk: Desk) -> list[EventV2]:
    """All thin events, oldest first."""
    rows, has_more = newest(desk.keeper, THIN, 1_000)
    assert not has_more
    return [msgspec.json.decode(row.body, type=EventV2) for row in reversed(rows)]


def samples(event: EventV2) -> list[str]:
    """The identifiers of the samples in a report."""
    assert event.data is not None
    errors: list[Any] = event.data["reason"]["error_types"]
    return [sample["meter_event_error"]["identifier"] for error in errors for sample in error["sample_errors"]]


def count(event: EventV2) -> int:
    """How many errors a report is of."""
    assert event.data is not None
    return event.data["reason"]["error_count"]
