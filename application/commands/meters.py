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
from ...domain.timestamps import ensure_utc, from_microseconds, to_iso
from ...projections.models import AsOf
from ..ledger.ledger import Ledger
from ..meter_views import MeterChange, MeterView, RulesRevisionView
from ..rules_arguments import parse_rules
from ..validation import parse_as_of, require_event_name, require_int, require_text


class MeterCommands:
    """The meters of a ledger: `metering.meters`."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._clock = clock

    def configure(
        self,
        event_name: str,
        *,
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
    ) -> MeterView:
        """Create the meter that counts events named `event_name`, and return it.

        `formula` is sum, count, last, max, min, avg or unique_count. `event_time_window` is None (every event counts),
        hour or day (the newest event of each UTC hour or day supersedes earlier ones). The keys name the payload
        entries of the customer, the value and the dimension values; without an optional dimension an event is in a
        group of its own. An existing meter with the same rules and name is returned unchanged.

        `filter` is a condition like {"key": "region", "equals": "eu"}; events that don't match are stored and don't
        count. See docs/rules.md for all conditions. The quantity of the formula is multiplied by `multiplier`, such as
        "1/3600", exactly. The billable quantity is rounded by `rounding`, such as {"mode": "up", "step": "0.01"}.

        Raises MeterAlreadyExists if the meter has other rules, and InvalidParameter for an argument out of range.
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
        try:
            return self._require_same(self._ledger.meter(event_name), rules, display_name)
        except MeterNotFound:
            pass
        meter = Meter.configure(event_name, name, rules, at=self._now())
        try:
            self._ledger.append(meter.collect_events())
        except IntegrityError:  # another process configured it in between
            return self._require_same(self._ledger.meter(event_name), rules, display_name)
        return MeterView.from_aggregate(meter, self._now())

    def rename(self, event_name: str, display_name: str) -> MeterView:
        """Change the display name of a meter, to at most 250 characters. Raises MeterNotFound."""
        name = require_text(display_name, "display_name", 250)
        return self._update(event_name, lambda meter, at: meter.rename(name, at=at))

    def deactivate(self, event_name: str) -> MeterView:
        """Reject further events of a meter. Its name stays taken, and its events can still be cancelled."""
        return self._update(event_name, lambda meter, at: Meter.deactivate(meter, at=at))

    def reactivate(self, event_name: str) -> MeterView:
        """Accept events of an inactive meter again."""
        return self._update(event_name, lambda meter, at: Meter.reactivate(meter, at=at))

    def get(self, event_name: str, *, as_of: datetime | int | None = None) -> MeterView:
        """Return a meter as it is, or as it was at `as_of`.

        Raises MeterNotFound, also if the meter was not configured yet at `as_of`.
        """
        known, event_name = parse_as_of(as_of), require_event_name(event_name)
        present = self._ledger.meter(event_name)
        if known is None:
            return MeterView.from_aggregate(present, self._now())
        for meter in self._ledger.meters(known):
            if meter.event_name == event_name:
                return MeterView.from_aggregate(meter, self._time_of(known))
        raise MeterNotFound(
            f"The meter {event_name!r} did not exist then; it was configured at {to_iso(present.created_on)}.",
            field="event_name",
            value=event_name,
        )

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
                details = event.revision, event.effective_from, event.rules, event.reason, event.by
            else:
                details = 1, None, event.rules, None, None
            revisions.append(RulesRevisionView(position, event.timestamp, *details))
        return revisions

    def list(self, *, as_of: datetime | int | None = None) -> list[MeterView]:
        """Return all meters, active and inactive, ordered by event name; those configured by `as_of`, as they were."""
        known = parse_as_of(as_of)
        at = self._time_of(known)
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

    def _time_of(self, as_of: AsOf | None) -> datetime:
        """Return the time of a point in the ledger: that of recording if it is a position, now if it is None."""
        if as_of is None:
            return self._now()
        recorded_at = as_of.recorded_at
        return from_microseconds(self._ledger.recorded_at(as_of.position or 0) if recorded_at is None else recorded_at)

    def _now(self) -> datetime:
        return ensure_utc(self._clock(), "clock")

    def _require_same(self, meter: Meter, rules: Rules, display_name: str | None) -> MeterView:
        if meter.rules != rules or display_name not in (None, meter.display_name):
            raise MeterAlreadyExists(
                f"A meter {meter.event_name!r} already exists with another display name or other rules: "
                f"{meter.display_name!r}, {meter.rules!r}. meters.rename changes its name, rules.change its rules.",
                field="event_name",
                value=meter.event_name,
            )
        return MeterView.from_aggregate(meter, self._now())
