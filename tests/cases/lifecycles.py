"""The peers' cases of what happens to a period, step by step: recorded, closed, corrected, reopened and read."""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import Field
from tallybook.application import TallybookError

from .peers import CaseOfAnyKind, Part, PeerEvent
from .timeline import Period, Timeline


class Expected(Part):
    """What a step answers; a refusal is `rejected`."""

    frozen: Decimal | None = None
    event_count: int | None = None
    already_closed: bool | None = None
    live: Decimal | None = None
    adjustments: Decimal | None = None
    net: Decimal | None = None
    drift: Decimal | None = None
    outcome: str | None = None


class Step(Part):
    """Something that is done, perhaps at a moment of its own."""

    at: datetime | None = None
    expect: Expected = Expected()

    def do(self, timeline: Timeline) -> Expected:
        """Do it; give what was answered, as far as the step can tell."""
        raise NotImplementedError


class Record(Step):
    """A use is reported."""

    op: Literal["record"]
    event: PeerEvent

    def do(self, timeline: Timeline) -> Expected:
        """Record the event."""
        return Expected(outcome=timeline.record(self.event))


class Adjust(Step):
    """A sum is corrected by a difference, which is reported like any use."""

    op: Literal["adjust"]
    id: str
    customer: str
    timestamp: datetime
    delta: Decimal
    corrects: str
    reason: str

    def do(self, timeline: Timeline) -> Expected:
        """Report the difference."""
        meter = timeline.meter
        assert meter.aggregation == "sum", "only a sum is corrected by a difference"
        payload: dict[str, str | int | Decimal | None] = {
            str(meter.value_key): self.delta,
            "corrects": self.corrects,
            "reason": self.reason,
        }
        event = PeerEvent(
            id=self.id, event_name=meter.event_name, customer=self.customer, timestamp=self.timestamp, payload=payload
        )
        return Expected(outcome=timeline.record(event))


class Cancel(Step):
    """An event is cancelled."""

    op: Literal["cancel"]
    event_id: str
    reason: str | None = None
    by: str | None = None

    def do(self, timeline: Timeline) -> Expected:
        """Cancel it."""
        timeline.metering.cancel(timeline.event_name, self.event_id, reason=self.reason, by=self.by)
        return Expected(outcome="cancelled")


class StepOfPeriod(Step):
    """Something that is done to a customer's period."""

    customer: str
    period: Period


class Close(StepOfPeriod):
    """A period is closed: when it ends, unless that is said or past."""

    op: Literal["close"]

    def do(self, timeline: Timeline) -> Expected:
        """Close it."""
        if self.at is None:
            timeline.go_to(self.period.end)
        before = timeline.closed(self.customer, self.period)
        closed = timeline.close(self.customer, self.period)
        assert before is None or before == closed
        return Expected(
            frozen=closed.quantity, event_count=closed.count, already_closed=before is not None, outcome="closed"
        )


class Reopen(StepOfPeriod):
    """A closed period is opened again; the first closing is kept all the same."""

    op: Literal["reopen"]
    reason: str = "no reason is told by the case"
    by: str | None = None

    def do(self, timeline: Timeline) -> Expected:
        """Reopen it."""
        event_name = timeline.event_name
        reopened = timeline.metering.reopen_period(
            event_name, self.customer, *self.period.bounds, reason=self.reason, by=self.by
        )
        assert reopened in timeline.metering.closed_periods(event_name, self.customer, reopened=True)
        return Expected(frozen=reopened.quantity, outcome="reopened")


class ReadPeriod(StepOfPeriod):
    """A period is read, closed or not."""

    op: Literal["read_period"]

    def do(self, timeline: Timeline) -> Expected:
        """Read what is frozen, what is owed since, and what the period comes to now."""
        closed, live = timeline.closed(self.customer, self.period), timeline.live(self.customer, self.period)
        if closed is None:
            return Expected(live=live)
        owed = timeline.owed(self.customer).get(self.period.bounds, Decimal(0))
        return Expected(
            frozen=closed.quantity,
            event_count=closed.count,
            live=live,
            adjustments=owed,
            net=closed.quantity + owed,
            drift=live - closed.quantity,
        )


AnyStep = Record | Adjust | Cancel | Close | Reopen | ReadPeriod


class Lifecycle(CaseOfAnyKind):
    """A case of steps, done in turn."""

    kind: Literal["lifecycle"]
    query: None
    expected: None
    steps: list[Annotated[AnyStep, Field(discriminator="op")]]


def check_lifecycle(stored: dict[str, Any], *, in_one_batch: bool) -> None:
    """Hold what each step is expected to answer; the steps come one by one."""
    case = Lifecycle.model_validate(stored)
    timeline = Timeline(case.meter)
    with timeline.metering:
        for event in case.events:
            timeline.record(event)
        for step in case.steps:
            timeline.go_to(step.at)
            answered = _answer(step, timeline)
            expected = step.expect.model_fields_set
            assert {field: getattr(answered, field) for field in expected} == step.expect.model_dump(include=expected)


def _answer(step: AnyStep, timeline: Timeline) -> Expected:
    try:
        return step.do(timeline)
    except TallybookError:
        if step.expect.outcome is None:
            raise
        return Expected(outcome="rejected")
