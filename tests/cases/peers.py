"""The peers' cases about figures as this ledger can run them, through the public face alone.

A case that says anything else than these models know is not run: `skipped.toml` lists it with the reason.
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

FILE = Path(__file__).parents[2].parent / "shared" / "cases" / "peer_cases.json"
LIFTED = AcceptancePolicy(max_age=None, max_ahead=None, cancel_window=None, max_digits=None)
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Part(BaseModel):
    """A part of a case; anything that it doesn't know makes the case one that isn't run."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PeerMeter(Part):
    """What is counted, and how."""

    aggregation: Literal["sum", "count", "last"]
    event_name: str
    value_key: str | None
    event_time_window: str | None = None


class PeerEvent(Part):
    """A use, and when the system accepted it."""

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
    """What is asked."""

    customer: str | None
    start: datetime | None
    end: datetime | None
    window: Literal["minute", "hour", "day", "month", "year"] | None
    timezone: str = "UTC"
    as_of: datetime | None = None
    received: Received | None = None


class Figure(Part):
    """An expected figure, of the whole range or of one window."""

    value: Decimal
    window_start: datetime | None = None
    window_end: datetime | None = None


class Action(Part):
    """A cancel after the events."""

    op: Literal["cancel"]
    event_id: str
    at: datetime


class Lineage(Part):
    """The events behind a figure."""

    event_ids: list[str]


class CaseOfAnyKind(Part):
    """What every case says: what is counted, what is used, and where the case is from."""

    name: str
    dialect: str
    meter: PeerMeter
    events: list[PeerEvent]
    source: object
    origin: str
    tags: object
    stripe_core: bool
    notes: str = ""


class Case(CaseOfAnyKind):
    """A case about figures: a question, and what is expected for an answer."""

    kind: Literal["aggregate", "correction"]
    query: Query
    expected: list[Figure]
    actions: list[Action] = []
    ingest_outcome: list[str] | None = None
    flagged: list[str] | None = None
    lineage: Lineage | None = None


def stored_cases() -> dict[str, dict[str, Any]]:
    """All cases as they lie in the file, by name."""
    stored = json.loads(FILE.read_text(), parse_float=Decimal)
    return {case["name"]: case for case in stored["cases"]}


def check_figures(stored: dict[str, Any], *, in_one_batch: bool) -> None:
    """Hold a case about figures."""
    case = Case.model_validate(stored)
    if case.query.received or case.query.as_of:
        in_one_batch = False  # what was received when is what such a case is about
    Run(case, in_one_batch=in_one_batch).check()


class Run:
    """A case told to a fresh ledger."""

    def __init__(self, case: Case, *, in_one_batch: bool) -> None:
        self.case = case
        self.clock = Clock(EARLIEST)
        self.metering = Metering.open("sqlite://", policy=LIFTED, clock=self.clock)
        self.receipts: list[Receipt] = []
        configure(self.metering, case.meter, {case.meter.event_name, *(event.event_name for event in case.events)})
        if in_one_batch:
            self.receipts = self.metering.record_many([report(event) for event in case.events])
        else:
            for event in case.events:
                self.clock.now = event.received_at or event.timestamp
                self.receipts += self.metering.record_many([report(event)])
        for action in case.actions:
            self.clock.now = action.at
            self.metering.cancel(case.meter.event_name, action.event_id)

    def check(self) -> None:
        """Hold all that the case expects."""
        with self.metering:
            case = self.case
            if case.ingest_outcome is not None:
                assert [str(receipt.outcome) for receipt in self.receipts] == case.ingest_outcome
            if case.flagged is not None:
                refused = [receipt.identifier for receipt in self.receipts if receipt.outcome == "rejected"]
                assert refused == case.flagged
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
        query, expected = self.case.query, [figure.value for figure in self.case.expected]
        if query.received is None:
            total = self._total(query.as_of)
            assert [total.value] == expected if expected else (total.value, total.count) == (0, 0)
            return
        assert self.case.meter.aggregation != "last", "what was received in between has no last of its own"
        assert sum(self._received(query.received)) == Fraction(expected[0])

    def _received(self, condition: Received) -> list[Fraction]:
        """The figures of what was received then, from what was known before and after."""
        if condition.any is not None:
            return [figure for part in condition.any for figure in self._received(part)]
        until = condition.lte if condition.lt is None else condition.lt - MICROSECOND
        figure = Fraction(self._total(until).value)
        before = Fraction(0) if condition.gte is None else Fraction(self._total(condition.gte - MICROSECOND).value)
        return [figure - before]

    def _check_windows(self, window: str) -> None:
        query = self.case.query
        summaries = self.metering.summaries(
            self.case.meter.event_name, query.customer, query.start or EARLIEST, query.end or LATEST,
            window=window, timezone=query.timezone, as_of=query.as_of,
        )  # fmt: skip
        answered = [(one.value, one.start, one.end) for one in summaries]
        assert answered == [(figure.value, figure.window_start, figure.window_end) for figure in self.case.expected]

    def _lineage(self) -> list[str]:
        query = self.case.query
        explanation = self.metering.explain(
            self.case.meter.event_name, query.customer, query.start or EARLIEST, query.end or LATEST, as_of=query.as_of
        )
        return [one.identifier for one in explanation.events if one.verdict is Verdict.COUNTED]


def configure(metering: Metering, meter: PeerMeter, event_names: set[str]) -> None:
    """Begin to count each of `event_names` by the rules of a case."""
    for event_name in event_names:
        metering.configure_meter(
            event_name,
            formula=meter.aggregation,
            event_time_window=meter.event_time_window,
            customer_key="customer of the case",
            value_key=meter.value_key or "no value",
        )


def report(event: PeerEvent) -> dict[str, object]:
    """The report of an event of a case."""
    payload = {key: plain(value) for key, value in event.payload.items() if value is not None}
    return {
        "event_name": event.event_name,
        "payload": payload | {"customer of the case": event.customer},
        "identifier": event.id,
        "timestamp": event.timestamp,
    }


def plain(value: str | int | Decimal) -> str:
    """A value as text; a JSON number digit for digit."""
    return format(value, "f") if isinstance(value, Decimal) else str(value)
