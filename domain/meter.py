"""The Meter aggregate: its name, its rules, and whether it accepts meter events.

Invariant: a meter has rules from its first event on, and an event name belongs to one meter forever. A derived meter
counts the events of its source, which is not derived; its name and that of its source never change.
"""

import operator
from bisect import bisect_right
from collections.abc import Callable
from datetime import datetime

from pydantic import Field

from .acceptance_policy import AcceptancePolicy
from .aggregate import Aggregate
from .combinations import CombinationLimits, DimensionCombinations
from .conditions import Payload
from .errors import InvalidParameter, MeterInactive, MeterIsDerived, TallybookError
from .meter_event import MeterEventData
from .meter_event_input import MeterEventInput
from .rules import DimensionValues, Rules
from .rules_schedule import ALWAYS, RulesSchedule, check_effective_from
from .timestamps import ensure_utc, from_microseconds, to_microseconds

STREAM_PREFIX = "meter/"
MAX_DERIVED_METERS = 100
"""How many meters can be derived from one meter."""

EventAcceptor = Callable[[MeterEventInput], MeterEventData]
"""Returns the data to store for a meter event, or raises the error that rejects it."""
EventReader = Callable[[Payload, datetime], tuple[str, DimensionValues]]
"""Returns the customer and the dimension values of an event that occurred then, or raises the error that rejects it."""


class Meter(Aggregate):
    """A meter: what is counted, and by which rules."""

    class Configured(Aggregate.Created):
        """The meter was created with these rules."""

        event_name: str
        display_name: str
        rules: Rules
        source: str | None = Field(default=None, exclude_if=operator.not_)
        by: str | None = Field(default=None, exclude_if=operator.not_)

    class DerivedMeterAdded(Aggregate.Event):
        """A derived meter was configured that counts the events of this meter from now on, and all earlier ones."""

        derived_meter: str
        by: str | None = Field(default=None, exclude_if=operator.not_)

        def apply(self, aggregate: "Meter") -> None:
            """Add the name of the derived meter."""
            aggregate.derived_meters = (*aggregate.derived_meters, self.derived_meter)

    class Renamed(Aggregate.Event):
        """The display name of the meter changed."""

        display_name: str
        by: str | None = Field(default=None, exclude_if=operator.not_)

        def apply(self, aggregate: "Meter") -> None:
            """Set the display name."""
            aggregate.display_name = self.display_name

    class RulesChanged(Aggregate.Event):
        """The rules changed for usage from `effective_from` on, or for all usage. Repeats the name for the fold."""

        event_name: str
        revision: int
        rules: Rules
        reason: str
        by: str | None
        effective_from: datetime | None = Field(default=None, exclude_if=operator.not_)

        def apply(self, aggregate: "Meter") -> None:
            """Add the revision to the schedule."""
            start = ALWAYS if self.effective_from is None else to_microseconds(self.effective_from)
            aggregate.schedule = aggregate.schedule.change(start, self.revision, self.rules)
            aggregate.revision = self.revision

    class Deactivated(Aggregate.Event):
        """The meter was deactivated: it rejects meter events."""

        by: str | None = Field(default=None, exclude_if=operator.not_)

        def apply(self, aggregate: "Meter") -> None:
            """Set the time of deactivation."""
            aggregate.deactivated_at = self.timestamp

    class Reactivated(Aggregate.Event):
        """The meter was reactivated: it accepts meter events again."""

        by: str | None = Field(default=None, exclude_if=operator.not_)

        def apply(self, aggregate: "Meter") -> None:
            """Clear the time of deactivation."""
            aggregate.deactivated_at = None

    def __init__(self, event_name: str, display_name: str, rules: Rules, source: str | None = None) -> None:
        self.event_name = event_name
        self.display_name = display_name
        self.source = source
        self.derived_meters: tuple[str, ...] = ()
        self.schedule = RulesSchedule.always(rules)
        self.revision = 1
        self.deactivated_at: datetime | None = None

    @staticmethod
    def stream_id(event_name: str) -> str:
        """Return the id of the stream of the meter `event_name`."""
        return STREAM_PREFIX + event_name

    @property
    def rules(self) -> Rules:
        """The newest rules, which may apply to future usage only."""
        return self.schedule.newest.rules

    @property
    def is_active(self) -> bool:
        """Whether the meter accepts meter events."""
        return self.deactivated_at is None

    @property
    def recorded_name(self) -> str:
        """The event name of the events that the meter counts: its own, or that of its source."""
        return self.source or self.event_name

    @classmethod
    def configure(
        cls,
        event_name: str,
        display_name: str,
        rules: Rules,
        *,
        at: datetime,
        source: str | None = None,
        by: str | None = None,
    ) -> "Meter":
        """Create a meter. One with a `source` is derived; call `add_derived_meter` of its source too."""
        return cls._create(
            cls.Configured, id=cls.stream_id(event_name), timestamp=at,
            event_name=event_name, display_name=display_name, rules=rules, source=source, by=by,
        )  # fmt: skip

    def add_derived_meter(self, event_name: str, *, at: datetime, by: str | None = None) -> None:
        """Let a derived meter count the events of this meter.

        Raises MeterIsDerived if this meter is derived itself, and InvalidParameter if it has too many derived meters.
        """
        if self.source is not None:
            raise MeterIsDerived(
                f"The meter {self.event_name!r} is derived itself: use its source, {self.source!r}.",
                field="source",
                value=self.event_name,
            )
        if len(self.derived_meters) >= MAX_DERIVED_METERS:
            raise InvalidParameter(
                f"The meter {self.event_name!r} has {MAX_DERIVED_METERS} derived meters, the most there can be. Each "
                "event is checked and counted for all of them.",
                field="source",
                value=self.event_name,
            )
        self.trigger_event(self.DerivedMeterAdded, timestamp=at, derived_meter=event_name, by=by)

    def rename(self, display_name: str, *, at: datetime, by: str | None = None) -> None:
        """Change the display name, which has no effect on counting."""
        if display_name != self.display_name:
            self.trigger_event(self.Renamed, timestamp=at, display_name=display_name, by=by)

    def change_rules(
        self, rules: Rules, *, reason: str, by: str | None, at: datetime, effective_from: datetime | None = None
    ) -> None:
        """Change the rules for usage from `effective_from` on; for all usage if None. Stored meter events don't change.

        Nothing happens if the change would have no effect.
        Raises InvalidEffectiveFrom unless windows of the old and the new rules begin at that time.
        """
        start = ALWAYS if effective_from is None else to_microseconds(effective_from)
        check_effective_from(self.schedule, start, rules)
        if self.schedule.change(start, 0, rules).distinct_parts != self.schedule.distinct_parts:
            self.trigger_event(
                self.RulesChanged, timestamp=at, event_name=self.event_name, revision=self.revision + 1,
                rules=rules, reason=reason, by=by, effective_from=None if start == ALWAYS else effective_from,
            )  # fmt: skip

    def deactivate(self, *, at: datetime, by: str | None = None) -> None:
        """Reject further meter events. The event name stays reserved, and recorded events can still be cancelled.

        Raises MeterIsDerived for a derived meter, which counts what its source accepts.
        """
        if self.source is not None:
            raise MeterIsDerived(
                f"The meter {self.event_name!r} is derived and can't be deactivated: it counts the events of "
                f"{self.source!r}. Deactivate that meter, or give this one a filter from a time on.",
                field="event_name",
                value=self.event_name,
            )
        if self.is_active:
            self.trigger_event(self.Deactivated, timestamp=at, by=by)

    def reactivate(self, *, at: datetime, by: str | None = None) -> None:
        """Accept meter events again."""
        if not self.is_active:
            self.trigger_event(self.Reactivated, timestamp=at, by=by)

    def accept(self, event_input: MeterEventInput, *, at: datetime, policy: AcceptancePolicy) -> MeterEventData:
        """Return the data to store for a meter event submitted at `at`.

        Raises MeterInactive, MeterIsDerived, any error of `Rules.parse`, TooManyDigits, TimestampTooFarInPast or
        TimestampInFuture.
        """
        return self.acceptor(at=at, policy=policy, combinations=DimensionCombinations())(event_input)

    def acceptor(self, *, at: datetime, policy: AcceptancePolicy, combinations: CombinationLimits) -> EventAcceptor:
        """Return a function that does what `accept` does, for all meter events of one batch.

        It also raises TooManyCombinations, given the `combinations` of dimension values that were accepted before.
        The rules and limits are looked up once for the batch, because pydantic attributes are slow.
        """
        is_accepting, event_name = self.is_active and self.source is None, self.event_name
        read, (earliest, latest) = self.event_reader(policy), policy.accepted_range(at)

        def accept(event_input: MeterEventInput) -> MeterEventData:
            if not is_accepting:
                raise self._rejection()
            payload = event_input.payload
            occurred_at = at if event_input.timestamp is None else ensure_utc(event_input.timestamp, "timestamp")
            customer, dimensions = read(payload, occurred_at)
            if not earliest <= occurred_at <= latest:
                policy.check_occurred_at(occurred_at, at)
            if dimensions:
                combinations.add(event_name, customer, to_microseconds(occurred_at), dimensions, policy)
            return MeterEventData(at, event_name, payload, occurred_at)

        return accept

    def event_reader(self, policy: AcceptancePolicy) -> EventReader:
        """Return a function that reads events by the rules of their time, which are looked up once for a batch.

        It raises any error of `Rules.parse`, and TooManyDigits.
        """
        max_digits = policy.max_digits
        parsers = [(part.rules.parser(), part.rules.value_key) for part in self.schedule.parts]
        starts = [from_microseconds(part.start) for part in self.schedule.parts[1:]]
        first_parse, first_value_key = parsers[0]

        def read(payload: Payload, occurred_at: datetime) -> tuple[str, DimensionValues]:
            parse, value_key = first_parse, first_value_key
            if starts:
                parse, value_key = parsers[bisect_right(starts, occurred_at)]
            customer, value, dimensions, _, _ = parse(payload)
            if value is not None and max_digits is not None and len(payload[value_key]) > max_digits:
                policy.check_value(payload[value_key], value_key)
            return customer, dimensions

        return read

    def _rejection(self) -> TallybookError:
        """Return the error for a meter event of a meter that accepts none."""
        if self.source is not None:
            return MeterIsDerived(
                f"The meter {self.event_name!r} is derived: it counts the events of {self.source!r}; record them "
                "under that name.",
                field="event_name",
                value=self.event_name,
            )
        return MeterInactive(
            f"The meter {self.event_name!r} is inactive; reactivate it to record usage.",
            field="event_name",
            value=self.event_name,
        )
