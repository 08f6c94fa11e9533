"""Meters: configure, rename, deactivate and reactivate them, list them and their changes."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from eventsourcing.persistence import IntegrityError

from ...domain.conditions import Condition
from ...domain.errors import MeterAlreadyExists, MeterNotFound
from ...domain.meter import Meter
from ...domain.rounding import Rounding
from ...domain.rules import Rules
from ...domain.timestamps import ensure_utc, from_microseconds, to_microseconds
from ...projections.projector import Progress
from ..ledger.ledger import Ledger
from ..meter_views import MeterChange, MeterView, RulesRevisionView
from ..queries.meter_query import MeterQueryFactory
from ..rules_arguments import parse_rules
from ..similar_names import meter_not_found_then
from ..validation import Moment, optional_note, parse_as_of, require_event_name, require_int, require_text
from .derived_meters import DerivedMeterCommands


class MeterCommands:
    """The meters of a ledger: `metering.meters`."""

    def __init__(
        self,
        ledger: Ledger,
        derived_meters: DerivedMeterCommands,
        meter_queries: MeterQueryFactory,
        clock: Callable[[], datetime],
    ) -> None:
        self._ledger = ledger
        self._as_of = meter_queries.as_of
        self._derived_meters = derived_meters
        self._clock = clock

    def configure(
        self,
        event_name: str,
        *,
        source: str | None = None,
        display_name: str | None = None,
        formula: str = "sum",
        event_time_window: str | None = None,
        customer_key: str = "stripe_customer_id",
        value_key: str = "value",
        dimension_keys: Sequence[str] = (),
        optional_dimension_keys: Sequence[str] = (),
        filter: Condition | Mapping[str, object] | None = None,  # noqa: A002 - the name of the field
        multiplier: str | int | Decimal | Fraction | None = None,
        rounding: Rounding | Mapping[str, object] | None = None,
        by: str | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> MeterView:
        """Create the meter that counts events named `event_name`, and return it.

        With a `source`, the meter is derived: it counts all events of the meter `source`, past and future, by its own
        rules, and no events are recorded under its own name. A generation of the read models is built for it, while
        queries go on; `progress` is called after each page.

        `formula` is sum, count, last, max, min, avg or unique_count. `event_time_window` is None (every event counts),
        hour or day (the newest event of each UTC hour or day supersedes earlier ones). The keys name the payload
        entries of the customer, the value and the dimension values; without an optional dimension an event is in a
        group of its own. An existing meter with the same rules and name is returned unchanged.

        `filter` is a condition like {"key": "region", "equals": "eu"}; events that don't match are stored and don't
        count. docs/how-usage-is-counted.md describes all conditions. The quantity of the formula is multiplied by
        `multiplier`, such as "1/3600", exactly. The billable quantity is rounded by `rounding`, such as
        {"mode": "up", "step": "0.01"}.

        Raises MeterAlreadyExists if the meter has other rules, and InvalidParameter for an argument out of range. For a
        derived meter, raises MeterNotFound or MeterIsDerived for its source, IncompatibleRules with the events that its
        rules can't read, and RebuildInProgress; nothing is changed then.
        """
        rules = parse_rules(
            {
                "formula": formula,
                "event_time_window": event_time_window,
                "customer_key": customer_key,
                "value_key": value_key,
                "dimension_keys": dimension_keys,
                "optional_dimension_keys": optional_dimension_keys,
                "filter": filter,
                "multiplier": multiplier,
                "rounding": rounding,
            }
        )
        event_name = require_event_name(event_name)
        name = event_name if display_name is None else require_text(display_name, "display_name", 250)
        source = None if source is None else require_text(source, "source", 100)
        by = optional_note(by, "by")
        try:
            return self._require_same(self._ledger.meter(event_name), rules, display_name, source)
        except MeterNotFound:
            pass
        if source is not None:
            derived = self._derived_meters.configure(event_name, name, rules, source, by, progress)
            return self._require_same(derived, rules, display_name, source)
        meter = Meter.configure(event_name, name, rules, at=self._now(), by=by)
        try:
            self._ledger.append(meter.collect_events())
        except IntegrityError:  # another process configured it in between
            return self._require_same(self._ledger.meter(event_name), rules, display_name, source)
        return MeterView.from_aggregate(meter, self._now())

    def rename(self, event_name: str, display_name: str, *, by: str | None = None) -> MeterView:
        """Change the display name of a meter, to at most 250 characters. Raises MeterNotFound."""
        name, by = require_text(display_name, "display_name", 250), optional_note(by, "by")
        return self._update(event_name, lambda meter, at: meter.rename(name, at=at, by=by))

    def deactivate(self, event_name: str, *, by: str | None = None) -> MeterView:
        """Reject further events of a meter. Its name stays taken, and its events can still be cancelled.

        Meters that are derived from it get no more events either. Raises MeterIsDerived for a derived meter.
        """
        by = optional_note(by, "by")
        return self._update(event_name, lambda meter, at: Meter.deactivate(meter, at=at, by=by))

    def reactivate(self, event_name: str, *, by: str | None = None) -> MeterView:
        """Accept events of an inactive meter again."""
        by = optional_note(by, "by")
        return self._update(event_name, lambda meter, at: Meter.reactivate(meter, at=at, by=by))

    def get(self, event_name: str, *, as_of: datetime | int | None = None) -> MeterView:
        """Return a meter as it is, or as it was at `as_of`.

        Raises MeterNotFound, also if the meter was not configured yet at `as_of`.
        """
        known, event_name = self._as_of(as_of), require_event_name(event_name)
        present = self._ledger.meter(event_name)
        if known is None:
            return MeterView.from_aggregate(present, self._now())
        for meter in self._ledger.meters(known):
            if meter.event_name == event_name:
                return MeterView.from_aggregate(meter, self._time_of(as_of))
        raise meter_not_found_then(event_name, present.created_on)

    def changes(self, *, after: int = 0, limit: int = 100) -> list[MeterChange]:
        """Return up to `limit` changes of meters after the ledger position `after`, in order of position."""
        changes = self._ledger.meter_changes(
            require_int(after, "after", 0, 2**63 - 1), require_int(limit, "limit", 1, 10_000)
        )
        return [
            MeterChange(
                position,
                change,
                MeterView.from_aggregate(meter, meter.modified_on),
                before and MeterView.from_aggregate(before, meter.modified_on),
            )
            for position, change, meter, before in changes
        ]

    def history(self, event_name: str) -> list[RulesRevisionView]:
        """Return all revisions of the rules of a meter, the oldest first. Raises MeterNotFound."""
        event_name = require_event_name(event_name)
        self._ledger.meter(event_name)
        revisions: list[RulesRevisionView] = []
        for position, event in self._ledger.rules_events(event_name):
            if isinstance(event, Meter.RulesChanged):
                details = event.revision, event.effective_from, event.rules, event.reason
            else:
                details = 1, None, event.rules, None
            author = event.by, event.on_behalf_of, event.approved_by
            revisions.append(RulesRevisionView(position, event.timestamp, *details, *author))
        return revisions

    def list(self, *, as_of: datetime | int | None = None) -> list[MeterView]:
        """Return all meters, active and inactive, ordered by event name; those configured by `as_of`, as they were."""
        known, at = self._as_of(as_of), self._time_of(as_of)
        return [MeterView.from_aggregate(meter, at) for meter in self._ledger.meters(known)]

    def _update(self, event_name: str, command: Callable[[Meter, datetime], None]) -> MeterView:
        """Load a meter, run `command` and store its events; repeat if another process changed the meter meanwhile."""
        while True:
            meter = self._ledger.meter(require_event_name(event_name))
            command(meter, self._now())
            try:
                self._ledger.append(meter.collect_events())
            except IntegrityError:
                continue
            return MeterView.from_aggregate(meter, self._now())

    def _time_of(self, as_of: datetime | int | None) -> datetime:
        """Return the time that an `as_of` argument names: that of recording if it is a position, now if it is None."""
        known = parse_as_of(as_of)
        if known is None:
            return self._now()
        return from_microseconds(known.at if isinstance(known, Moment) else self._ledger.recorded_at(known.position))

    def _now(self) -> datetime:
        return ensure_utc(self._clock(), "clock")

    def _require_same(self, meter: Meter, rules: Rules, display_name: str | None, source: str | None) -> MeterView:
        if meter.source != source:
            kind = "is not derived" if meter.source is None else f"is derived from {meter.source!r}"
            raise MeterAlreadyExists(
                f"A meter {meter.event_name!r} already exists and {kind}, which can't change. Use another name.",
                field="event_name",
                value=meter.event_name,
            )
        present = meter.schedule.at(to_microseconds(self._now())).rules
        if rules not in (present, meter.rules) or display_name not in (None, meter.display_name):
            different = _different_rules(present, rules)
            if display_name not in (None, meter.display_name):
                different.insert(0, f"display_name={meter.display_name!r}")
            raise MeterAlreadyExists(
                f"A meter {meter.event_name!r} already exists with {', '.join(different)}. "
                "Its name is changed by meters.rename, its rules by rules.change.",
                field="event_name",
                value=meter.event_name,
            )
        return MeterView.from_aggregate(meter, self._now())


def _different_rules(rules: Rules, others: Rules) -> list[str]:
    """Return the rules that differ from others, as arguments."""
    plain = rules.model_dump(mode="json")
    fields = (field for field in Rules.model_fields if getattr(rules, field) != getattr(others, field))
    return [f"no {field}" if plain.get(field) is None else f"{field}={plain[field]!r}" for field in fields]
