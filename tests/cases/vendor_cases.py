"""The vendors' cases about totals, run through the public API.

A case with a field or value that these models do not have is not run: `skipped.toml` lists it with the reason.
"""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict
from tallybook.application import AcceptancePolicy, Metering, Receipt, Total, Verdict

from ..notation import Clock

FILE = Path(__file__).with_name("vendor_cases.json")
LIFTED = AcceptancePolicy(max_age=None, max_ahead=None, cancel_window=None, max_digits=None)
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Part(BaseModel):
    """A part of a case; unknown fields are validation errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class VendorMeter(Part):
    """The meter of a case."""

    aggregation: Literal["sum", "count", "last"]
    event_name: str
    value_key: str | None
    event_time_window: str | None = None


class VendorEvent(Part):
    """A meter event, and when the system received it."""

    id: str
    event_name: str
    customer: str
    timestamp: datetime
    payload: dict[str, str | int | Decimal | None]
    received_at: datetime | None = None


class Received(Part):
    """A condition on when events were received."""

    lt: datetime | None = None
    lte: datetime | None = None
    gte: datetime | None = None
    any: "list[Received] | None" = None


class Query(Part):
    """The query of a case."""

    customer: str | None
    start: datetime | None
    end: datetime | None
    window: Literal["minute", "hour", "day", "month", "year"] | None
    timezone: str = "UTC"
    as_of: datetime | None = None
    received: Received | None = None


class ExpectedTotal(Part):
    """An expected total, of the whole range or of one window."""

    value: Decimal
    window_start: datetime | None = None
    window_end: datetime | None = None


class Action(Part):
    """A cancellation after the events."""

    op: Literal["cancel"]
    event_id: str
    at: datetime


class Lineage(Part):
    """The events behind a total."""

    event_ids: list[str]


class AnyCase(Part):
    """The fields of every case: the meter, the events, and the source of the case."""

    name: str
    dialect: str
    meter: VendorMeter
    events: list[VendorEvent]
    source: object
    origin: str
    tags: object
    stripe_core: bool
    notes: str = ""


class Case(AnyCase):
    """A case about totals: a query and its expected result."""

    kind: Literal["aggregate", "correction"]
    query: Query
    expected: list[ExpectedTotal]
    actions: list[Action] = []
    ingest_outcome: list[str] | None = None
    flagged: list[str] | None = None
    lineage: Lineage | None = None


def load_cases() -> dict[str, dict[str, Any]]:
    """Return all cases of the file by name, not validated yet."""
    stored = json.loads(FILE.read_text(), parse_float=Decimal)
    return {case["name"]: case for case in stored["cases"]}


def check_totals(stored: dict[str, Any], *, in_one_batch: bool) -> None:
    """Check a case about totals."""
    case = Case.model_validate(stored)
    if case.query.received or case.query.as_of:
        in_one_batch = False  # the case depends on when events were received
    CaseRun(case, in_one_batch=in_one_batch).check()


class CaseRun:
    """Runs a case on a new ledger."""

    def __init__(self, case: Case, *, in_one_batch: bool) -> None:
        self.case = case
        self.clock = Clock(EARLIEST)
        self.metering = Metering.open("sqlite://", policy=LIFTED, clock=self.clock)
        self.receipts: list[Receipt] = []
        configure(self.metering, case.meter, {case.meter.event_name, *(event.event_name for event in case.events)})
        if in_one_batch:
            self.receipts = self.metering.record_many([event_input(event) for event in case.events])
        else:
            for event in case.events:
                self.clock.now = event.received_at or event.timestamp
                self.receipts += self.metering.record_many([event_input(event)])
        for action in case.actions:
            self.clock.now = action.at
            self.metering.cancel(case.meter.event_name, action.event_id)

    def check(self) -> None:
        """Check everything that the case expects."""
        with self.metering:
            case = self.case
            if case.ingest_outcome is not None:
                assert [str(receipt.outcome) for receipt in self.receipts] == case.ingest_outcome
            if case.flagged is not None:
                rejected = [receipt.identifier for receipt in self.receipts if receipt.outcome == "rejected"]
                assert rejected == case.flagged
            if case.lineage is not None:
                assert self._lineage() == case.lineage.event_ids
            if case.query.window is None:
                self._check_total()
            else:
                self._check_windows(case.query.window)

    def _total(self, as_of: datetime | None) -> Total:
        query = self.case.query
        return self.metering.total(
            self.case.meter.event_name, query.customer, query.start or EARLIEST, query.end or LATEST, as_of=as_of
        )

    def _check_total(self) -> None:
        query, expected = self.case.query, [expected_total.value for expected_total in self.case.expected]
        if query.received is None:
            total = self._total(query.as_of)
            assert [total.value] == expected if expected else (total.value, total.count) == (0, 0)
            return
        assert self.case.meter.aggregation != "last", "there is no last value of the events received in a range"
        assert sum(self._received(query.received)) == Fraction(expected[0])

    def _received(self, condition: Received) -> list[Fraction]:
        """Return the totals of the events received then: the total after less the total before."""
        if condition.any is not None:
            return [total for part in condition.any for total in self._received(part)]
        until = condition.lte if condition.lt is None else condition.lt - MICROSECOND
        total = Fraction(self._total(until).value)
        before = Fraction(0) if condition.gte is None else Fraction(self._total(condition.gte - MICROSECOND).value)
        return [total - before]

    def _check_windows(self, window: str) -> None:
        query = self.case.query
        summaries = self.metering.summaries(
            self.case.meter.event_name, query.customer, query.start or EARLIEST, query.end or LATEST,
            window=window, timezone=query.timezone, as_of=query.as_of,
        )  # fmt: skip
        actual = [(summary.value, summary.start, summary.end) for summary in summaries]
        assert actual == [(total.value, total.window_start, total.window_end) for total in self.case.expected]

    def _lineage(self) -> list[str]:
        query = self.case.query
        explanation = self.metering.explain(
            self.case.meter.event_name, query.customer, query.start or EARLIEST, query.end or LATEST, as_of=query.as_of
        )
        return [event.identifier for event in explanation.events if event.verdict is Verdict.COUNTED]


def configure(metering: Metering, meter: VendorMeter, event_names: set[str]) -> None:
    """Configure a meter for each of `event_names` with the rules of a case."""
    for event_name in event_names:
        metering.meters.configure(
            event_name,
            formula=meter.aggregation,
            event_time_window=meter.event_time_window,
            customer_key="customer of the case",
            value_key=meter.value_key or "no value",
        )


def event_input(event: VendorEvent) -> dict[str, object]:
    """Return the meter event to record for an event of a case."""
    payload = {key: plain_text(value) for key, value in event.payload.items() if value is not None}
    return {
        "event_name": event.event_name,
        "payload": payload | {"customer of the case": event.customer},
        "identifier": event.id,
        "timestamp": event.timestamp,
    }


def plain_text(value: str | int | Decimal) -> str:
    """Return a value as text; all digits of a JSON number are preserved."""
    return format(value, "f") if isinstance(value, Decimal) else str(value)
