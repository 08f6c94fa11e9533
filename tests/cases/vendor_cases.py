"""The vendors' cases about totals, run through the public API.

A case with a field or value that these models do not have is not run: `skipped.toml` lists it with the reason.
"""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from tallybook.application import AcceptancePolicy, Metering, Receipt, Total, Verdict

from ..notation import Clock
from .vendor_meter import Part, VendorMeter, configure, plain_text

FILE = Path(__file__).with_name("vendor_cases.json")
LIFTED = AcceptancePolicy(max_age=None, max_ahead=None, cancel_window=None, max_digits=None, max_clock_delay=None)
"""Without limits. The clock goes to the time of each event, also back: an engine gets events in any order of times."""
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


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
    group_by: tuple[str, ...] = ()


Group = tuple[tuple[str, str | None], ...]
"""The dimension values of a total, sorted by key; None is an absent key."""


class ExpectedTotal(Part):
    """An expected total, of the whole range, of one window or of one group of dimension values."""

    value: Decimal
    window_start: datetime | None = None
    window_end: datetime | None = None
    group: dict[str, str | None] | None = None

    @property
    def key(self) -> "TotalKey":
        """The window and the group of the total."""
        return self.window_start, self.window_end, tuple(sorted((self.group or {}).items()))


TotalKey = tuple[datetime | None, datetime | None, Group]
"""The window and the group of a total; None if the query has no windows."""


class Tolerance(Part):
    """How far a total may be from the expected one, which its source rounded."""

    abs: Decimal


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
    actions: tuple[Action, ...] = ()
    ingest_outcome: list[str] | None = None
    flagged: list[str] | None = None
    lineage: Lineage | None = None
    tolerance: Tolerance = Tolerance(abs=Decimal(0))


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
        event_names = {case.meter.event_name, *(event.event_name for event in case.events)}
        configure(self.metering, case.meter, event_names, case.query.group_by)
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
            if case.query.received is not None:
                self._check_received(case.query.received)
            else:
                self._check_totals()

    def _total(self, as_of: datetime | None) -> Total:
        query = self.case.query
        return self.metering.total(
            self.case.meter.event_name, query.customer, query.start or EARLIEST, query.end or LATEST,
            as_of=as_of, group_by=query.group_by,
        )  # fmt: skip

    def _check_received(self, condition: Received) -> None:
        assert self.case.meter.aggregation in ("sum", "count"), "only these add up over the events received in a range"
        (expected,) = self.case.expected
        assert sum(self._received(condition)) == Fraction(expected.value)

    def _received(self, condition: Received) -> list[Fraction]:
        """Return the totals of the events received then: the total after less the total before."""
        if condition.any is not None:
            return [total for part in condition.any for total in self._received(part)]
        until = condition.lte if condition.lt is None else condition.lt - MICROSECOND
        total = Fraction(self._total(until).value)
        before = Fraction(0) if condition.gte is None else Fraction(self._total(condition.gte - MICROSECOND).value)
        return [total - before]

    def _check_totals(self) -> None:
        """Check the totals of each window and group, in the order of the windows."""
        actual, tolerance = self._totals(), self.case.tolerance.abs
        expected = {total.key: total.value for total in self.case.expected}
        assert actual.keys() == expected.keys()
        assert all(abs(actual[key] - value) <= tolerance for key, value in expected.items())
        assert [start for start, _, _ in actual] == [total.window_start for total in self.case.expected]

    def _totals(self) -> dict[TotalKey, Decimal]:
        """Return the totals by window and group. No usage is an empty result, or 0 if the case expects a total."""
        query = self.case.query
        if query.window is None:
            total = self._total(query.as_of)
            return self._by_group(total, None, None) if total.count or self.case.expected else {}
        summaries = self.metering.summaries(
            self.case.meter.event_name, query.customer, query.start or EARLIEST, query.end or LATEST,
            window=query.window, timezone=query.timezone, as_of=query.as_of, group_by=query.group_by,
        )  # fmt: skip
        return {
            key: value
            for summary in summaries
            for key, value in self._by_group(summary, summary.start, summary.end).items()
        }

    def _by_group(self, total: Total, start: datetime | None, end: datetime | None) -> dict[TotalKey, Decimal]:
        groups = total.groups if self.case.query.group_by else (total,)
        return {(start, end, tuple(sorted(group.dimensions.items()))): self._quantity(group) for group in groups}

    def _quantity(self, total: Total) -> Decimal:
        """Return what a case calls the value of a total: the rounded one, if its meter rounds."""
        return total.value if self.case.meter.rounding is None else total.billable

    def _lineage(self) -> list[str]:
        query = self.case.query
        explanation = self.metering.explain(
            self.case.meter.event_name, query.customer, query.start or EARLIEST, query.end or LATEST, as_of=query.as_of
        )
        return [event.identifier for event in explanation.events if event.verdict is Verdict.COUNTED]


def event_input(event: VendorEvent) -> dict[str, object]:
    """Return the meter event to record for an event of a case."""
    payload = {key: plain_text(value) for key, value in event.payload.items() if value is not None}
    return {
        "event_name": event.event_name,
        "payload": payload | {"customer of the case": event.customer},
        "identifier": event.id,
        "timestamp": event.timestamp,
    }
