"""The vendors' cases about the life of a period, step by step: record, close, correct, reopen and read."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field
from tallybook.application import TallybookError

from .timeline import Period, Timeline
from .vendor_cases import AnyCase, VendorEvent
from .vendor_meter import Part


class Expected(Part):
    """The expected result of a step; the outcome of an error is `rejected`."""

    frozen: Decimal | None = None
    event_count: int | None = None
    already_closed: bool | None = None
    live: Decimal | None = None
    adjustments: Decimal | None = None
    net: Decimal | None = None
    drift: Decimal | None = None
    outcome: str | None = None


class Step(Part):
    """A step of a case, at a moment if it has one."""

    at: datetime | None = None
    expect: Expected = Expected()

    def run(self, timeline: Timeline) -> Expected:
        """Run the step, and return the fields of the result that it has."""
        raise NotImplementedError


class Record(Step):
    """Records a meter event."""

    op: Literal["record"]
    event: VendorEvent

    def run(self, timeline: Timeline) -> Expected:
        """Record the event."""
        return Expected(outcome=timeline.record(self.event))


class Adjust(Step):
    """Corrects a sum by a difference, which is recorded as a meter event."""

    op: Literal["adjust"]
    id: str
    customer: str
    timestamp: datetime
    delta: Decimal
    corrects: str
    reason: str

    def run(self, timeline: Timeline) -> Expected:
        """Record the difference."""
        meter = timeline.meter
        assert meter.aggregation == "sum", "only a sum can be corrected by a difference"
        payload: dict[str, str | int | Decimal | None] = {
            str(meter.value_key): self.delta,
            "corrects": self.corrects,
            "reason": self.reason,
        }
        event = VendorEvent(
            id=self.id, event_name=meter.event_name, customer=self.customer, timestamp=self.timestamp, payload=payload
        )
        return Expected(outcome=timeline.record(event))


class Cancel(Step):
    """Cancels a meter event."""

    op: Literal["cancel"]
    event_id: str
    reason: str | None = None
    by: str | None = None

    def run(self, timeline: Timeline) -> Expected:
        """Cancel the event."""
        timeline.metering.cancel(timeline.event_name, self.event_id, reason=self.reason, by=self.by)
        return Expected(outcome="cancelled")


class PeriodStep(Step):
    """A step about a customer's period."""

    customer: str
    period: Period


class Close(PeriodStep):
    """Closes a period, at its end unless the step has a later moment."""

    op: Literal["close"]

    def run(self, timeline: Timeline) -> Expected:
        """Close the period."""
        if self.at is None:
            timeline.advance_to(self.period.end)
        before = timeline.closed_period_of(self.customer, self.period)
        closed = timeline.close(self.customer, self.period)
        assert before is None or before == closed
        return Expected(
            frozen=closed.quantity, event_count=closed.count, already_closed=before is not None, outcome="closed"
        )


class Reopen(PeriodStep):
    """Reopens a closed period; the first closing stays in the ledger."""

    op: Literal["reopen"]
    reason: str = "the case has no reason"
    by: str | None = None

    def run(self, timeline: Timeline) -> Expected:
        """Reopen the period."""
        event_name = timeline.event_name
        reopened = timeline.metering.periods.reopen(
            event_name, self.customer, *self.period.bounds, reason=self.reason, by=self.by
        )
        assert reopened in timeline.metering.periods.list(event_name, self.customer, reopened=True)
        return Expected(frozen=reopened.quantity, outcome="reopened")


class ReadPeriod(PeriodStep):
    """Reads a period, closed or not."""

    op: Literal["read_period"]

    def run(self, timeline: Timeline) -> Expected:
        """Read the frozen total, the adjustment and the current total."""
        closed, live = (
            timeline.closed_period_of(self.customer, self.period),
            timeline.current_total(self.customer, self.period),
        )
        if closed is None:
            return Expected(live=live)
        adjustment = timeline.adjustments(self.customer).get(self.period.bounds, Decimal(0))
        return Expected(
            frozen=closed.quantity,
            event_count=closed.count,
            live=live,
            adjustments=adjustment,
            net=closed.quantity + adjustment,
            drift=live - closed.quantity,
        )


AnyStep = Record | Adjust | Cancel | Close | Reopen | ReadPeriod


class Lifecycle(AnyCase):
    """A case of steps in order."""

    kind: Literal["lifecycle"]
    query: None
    expected: None
    steps: list[Annotated[AnyStep, Field(discriminator="op")]]


def check_lifecycle(stored: dict[str, Any], *, in_one_batch: bool) -> None:
    """Check the expected result of each step."""
    case = Lifecycle.model_validate(stored)
    timeline = Timeline(case.meter)
    with timeline.metering:
        for event in case.events:
            timeline.record(event)
        for step in case.steps:
            timeline.advance_to(step.at)
            actual = _run_step(step, timeline)
            expected = step.expect.model_fields_set
            assert {field: getattr(actual, field) for field in expected} == step.expect.model_dump(include=expected)


def _run_step(step: AnyStep, timeline: Timeline) -> Expected:
    try:
        return step.run(timeline)
    except TallybookError:
        if step.expect.outcome is None:
            raise
        return Expected(outcome="rejected")
