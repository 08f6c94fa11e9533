"""Meters: configured, listed, renamed, put to rest and woken."""

from collections.abc import Callable, Sequence
from datetime import datetime

from eventsourcing.persistence import IntegrityError

from ..domain.errors import MeterExists, NoMeter
from ..domain.instants import in_utc, iso
from ..domain.meter import Meter
from ..domain.rules import Rules
from .arguments import known_as_of, text
from .ledger import Ledger
from .results import MeterChange, MeterView
from .rule_arguments import rules


class MeterRegistry:
    """The meters of a ledger."""

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self.ledger = ledger
        self.clock = clock

    def configure(
        self,
        event_name: str,
        display_name: str | None,
        formula: str,
        event_time_window: str | None,
        customer_key: str,
        value_key: str,
        dimension_keys: Sequence[str],
    ) -> MeterView:
        """Begin a meter; where it is there already with the same rules and name, give it."""
        asked = rules(formula, event_time_window, customer_key, value_key, dimension_keys)
        name = text(event_name, "event_name", 100)
        shown = name if display_name is None else text(display_name, "display_name", 250)
        try:
            return self._the_same(self.ledger.meter(name), asked, display_name)
        except NoMeter:
            pass
        meter = Meter.configure(name, shown, asked, at=self._now())
        try:
            self.ledger.append(meter.collect_events())
        except IntegrityError:  # configured by somebody else in between
            return self._the_same(self.ledger.meter(name), asked, display_name)
        return MeterView.of(meter)

    def change(self, event_name: str, command: Callable[[Meter, datetime], None]) -> MeterView:
        """Load a meter, let `command` change it, and store what happened; again if somebody else was faster."""
        while True:
            meter = self.ledger.meter(text(event_name, "event_name", 100))
            command(meter, self._now())
            try:
                self.ledger.append(meter.collect_events())
            except IntegrityError:
                continue
            return MeterView.of(meter)

    def meter(self, event_name: str, as_of: datetime | int | None = None) -> MeterView:
        """One meter, as it was known. Raises NoMeter, also where it wasn't configured yet."""
        known = known_as_of(as_of)
        present = self.ledger.meter(event_name)
        if known is None:
            return MeterView.of(present)
        for meter in self.ledger.meters(known):
            if meter.event_name == event_name:
                return MeterView.of(meter)
        raise NoMeter(
            f"There was no meter {event_name!r} then; it was configured at {iso(present.created_on)}.",
            field="event_name",
            value=event_name,
        )

    def all(self, as_of: datetime | int | None = None) -> list[MeterView]:
        """All meters, as they were known, ordered by event name."""
        return [MeterView.of(meter) for meter in self.ledger.meters(known_as_of(as_of))]

    def changes(self, after: int, limit: int) -> list[MeterChange]:
        """Up to `limit` of what happened to meters after the position `after`, in order."""
        return [
            MeterChange(position, happened, MeterView.of(meter), before and MeterView.of(before))
            for position, happened, meter, before in self.ledger.meter_changes(after, limit)
        ]

    def _the_same(self, meter: Meter, asked: Rules, display_name: str | None) -> MeterView:
        if meter.rules != asked or display_name not in (None, meter.display_name):
            raise MeterExists(
                f"A meter {meter.event_name!r} already exists with another display name or other rules: "
                f"{meter.display_name!r}, {meter.rules!r}. rename_meter changes its name, change_rules its rules.",
                field="event_name",
                value=meter.event_name,
            )
        return MeterView.of(meter)

    def _now(self) -> datetime:
        return in_utc(self.clock(), "clock")
