"""Meters, their rules and their changes, as the calls of Metering return them."""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import NamedTuple

from ..domain.conditions import Condition
from ..domain.event_time_window import EventTimeWindow
from ..domain.formulas import Formula
from ..domain.meter import Meter
from ..domain.rounding import Rounding
from ..domain.rules import Rules
from ..domain.timestamps import from_microseconds, to_microseconds


class UpcomingRules(NamedTuple):
    """Rules of a meter that apply to usage from `effective_from` on."""

    effective_from: datetime
    revision: int
    rules: Rules


@dataclass(frozen=True, slots=True)
class MeterView:
    """A meter and the rules that apply to present usage. Times are in UTC; `status` is active or inactive.

    `upcoming` are announced changes: the rules for usage from a later time on, in order of time. A derived meter counts
    the events of the meter `source`; `derived_meters` are those that count the events of this one.
    """

    event_name: str
    display_name: str
    formula: Formula
    event_time_window: EventTimeWindow | None
    customer_key: str
    value_key: str
    dimension_keys: tuple[str, ...]
    optional_dimension_keys: tuple[str, ...]
    filter: Condition | None
    multiplier: Fraction | None
    rounding: Rounding | None
    revision: int
    status: str
    created_at: datetime
    updated_at: datetime
    deactivated_at: datetime | None
    upcoming: tuple[UpcomingRules, ...] = ()
    source: str | None = None
    derived_meters: tuple[str, ...] = ()

    @classmethod
    def from_aggregate(cls, meter: Meter, at: datetime) -> "MeterView":
        """Return the view of a meter at a time."""
        now = to_microseconds(at)
        _, revision, rules = meter.schedule.at(now)
        return cls(
            meter.event_name,
            meter.display_name,
            rules.formula,
            rules.event_time_window,
            rules.customer_key,
            rules.value_key,
            rules.dimension_keys,
            rules.optional_dimension_keys,
            rules.filter,
            rules.multiplier,
            rules.rounding,
            revision,
            "active" if meter.is_active else "inactive",
            meter.created_on,
            meter.modified_on,
            meter.deactivated_at,
            tuple(
                UpcomingRules(from_microseconds(start), upcoming_revision, upcoming_rules)
                for start, upcoming_revision, upcoming_rules in meter.schedule.parts
                if start > now
            ),
            meter.source,
            meter.derived_meters,
        )


class RulesRevisionView(NamedTuple):
    """A revision of the rules of a meter, for usage from `effective_from` on; None is all usage.

    `position` is its position in the ledger. The first revision has no `reason`. `on_behalf_of` is the
    name that the author stated for somebody else, and `approved_by` who approved the change, if it was proposed.
    """

    position: int
    recorded_at: datetime
    revision: int
    effective_from: datetime | None
    rules: Rules
    reason: str | None
    by: str | None
    on_behalf_of: str | None = None
    approved_by: str | None = None


class MeterChange(NamedTuple):
    """A change of a meter: its ledger position, its kind, and the meter after and before it.

    `change` is Configured, Renamed, RulesChanged, Deactivated, Reactivated or DerivedMeterAdded (a meter was derived
    from this one). `before` is None for Configured.
    """

    position: int
    change: str
    meter: MeterView
    before: MeterView | None
