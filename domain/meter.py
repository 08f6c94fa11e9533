"""A meter: one thing that is counted, and the rules it is counted by."""

from collections.abc import Callable
from datetime import datetime

from .aggregate import Aggregate
from .errors import ArchivedMeter
from .instants import in_utc
from .meter_event import ReportedUse
from .policy import AcceptancePolicy
from .report import Report
from .rules import Rules

STREAM_PREFIX = "meter/"

Decider = Callable[[Report], ReportedUse]
"""What decides on a report: gives the use to store, or refuses with the reason."""


class Meter(Aggregate):
    """One thing that is counted. Its rules are known before any usage is recorded under it."""

    class Configured(Aggregate.Created):
        """The meter began, under these rules."""

        event_name: str
        display_name: str
        rules: Rules

    class Renamed(Aggregate.Event):
        """The meter is shown under another name."""

        display_name: str

        def apply(self, aggregate: "Meter") -> None:
            """Take the new name."""
            aggregate.display_name = self.display_name

    class RulesChanged(Aggregate.Event):
        """The meter counts by other rules, also what was recorded before. Carries what a fold needs."""

        event_name: str
        revision: int
        rules: Rules
        reason: str
        by: str | None

        def apply(self, aggregate: "Meter") -> None:
            """Take the new rules."""
            aggregate.rules = self.rules
            aggregate.revision = self.revision

    class Deactivated(Aggregate.Event):
        """The meter takes no more usage."""

        def apply(self, aggregate: "Meter") -> None:
            """Be inactive."""
            aggregate.deactivated_at = self.timestamp

    class Reactivated(Aggregate.Event):
        """The meter takes usage again."""

        def apply(self, aggregate: "Meter") -> None:
            """Be active."""
            aggregate.deactivated_at = None

    def __init__(self, event_name: str, display_name: str, rules: Rules) -> None:
        self.event_name = event_name
        self.display_name = display_name
        self.rules = rules
        self.revision = 1
        self.deactivated_at: datetime | None = None

    @staticmethod
    def stream(event_name: str) -> str:
        """The id of the stream that `event_name` names: one meter a name, for ever."""
        return STREAM_PREFIX + event_name

    @property
    def is_active(self) -> bool:
        """Whether the meter takes usage."""
        return self.deactivated_at is None

    @classmethod
    def configure(cls, event_name: str, display_name: str, rules: Rules, *, at: datetime) -> "Meter":
        """Begin to count something."""
        return cls._create(
            cls.Configured, id=cls.stream(event_name), timestamp=at,
            event_name=event_name, display_name=display_name, rules=rules,
        )  # fmt: skip

    def rename(self, display_name: str, *, at: datetime) -> None:
        """Show the meter under another name; the only attribute that may change freely."""
        if display_name != self.display_name:
            self.trigger_event(self.Renamed, timestamp=at, display_name=display_name)

    def change_rules(self, rules: Rules, *, reason: str, by: str | None, at: datetime) -> None:
        """Count by other rules from now on, all of the past included; what was reported stays as it is."""
        if rules != self.rules:
            self.trigger_event(
                self.RulesChanged, timestamp=at, event_name=self.event_name, revision=self.revision + 1,
                rules=rules, reason=reason, by=by,
            )  # fmt: skip

    def deactivate(self, *, at: datetime) -> None:
        """Take no more usage. The name stays taken, and what was recorded can still be cancelled."""
        if self.is_active:
            self.trigger_event(self.Deactivated, timestamp=at)

    def reactivate(self, *, at: datetime) -> None:
        """Take usage again."""
        if not self.is_active:
            self.trigger_event(self.Reactivated, timestamp=at)

    def record(self, report: Report, *, at: datetime, policy: AcceptancePolicy) -> ReportedUse:
        """Decide on a report: give the use to store, or refuse with the reason.

        Raises ArchivedMeter, whatever `Rules.read` raises, TooManyDigits, TimestampTooFarInPast or
        TimestampInFuture.
        """
        return self.decider(at=at, policy=policy)(report)

    def decider(self, *, at: datetime, policy: AcceptancePolicy) -> Decider:
        """What decides, as `record` does, on the reports that come in at a moment.

        It has looked up the rules and worked out the limits beforehand, once for all of a batch.
        """
        is_active, event_name, value_key = self.is_active, self.event_name, self.rules.value_key
        read, max_digits, (earliest, latest) = self.rules.reader(), policy.max_digits, policy.accepted_times(at)

        def decide(report: Report) -> ReportedUse:
            if not is_active:
                raise ArchivedMeter(
                    f"The meter {event_name!r} is inactive; reactivate it to record usage.",
                    field="event_name",
                    value=event_name,
                )
            payload = report.payload
            _, value, _ = read(payload)
            if value is not None and max_digits is not None and len(payload[value_key]) > max_digits:
                policy.check_value(payload[value_key], value_key)
            occurred_at = at if report.timestamp is None else in_utc(report.timestamp, "timestamp")
            if not earliest <= occurred_at <= latest:
                policy.check_occurred_at(occurred_at, at)
            return ReportedUse(at, event_name, payload, occurred_at)

        return decide
