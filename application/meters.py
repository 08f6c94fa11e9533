"""Meters: configured, listed, renamed, put to rest and woken."""

from collections.abc import Callable, Sequence
from datetime import datetime

from eventsourcing.persistence import IntegrityError

from ..domain.errors import MeterExists, NoMeter
from ..domain.instants import in_utc
from ..domain.meter import Meter
from ..domain.rules import EventTimeWindow, Formula, Rules
from .arguments import choice, text, texts
from .ledger import Ledger
from .results import MeterView


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
        rules = Rules(
            formula=choice(formula, "formula", Formula),
            event_time_window=(
                None if event_time_window is None else choice(event_time_window, "event_time_window", EventTimeWindow)
            ),
            customer_key=text(customer_key, "customer_key", 100),
            value_key=text(value_key, "value_key", 100),
            dimension_keys=texts(dimension_keys, "dimension_keys", 100, most=10),
        )
        name = text(event_name, "event_name", 100)
        shown = name if display_name is None else text(display_name, "display_name", 250)
        try:
            return self._the_same(self.ledger.meter(name), rules, display_name)
        except NoMeter:
            pass
        meter = Meter.configure(name, shown, rules, at=self._now())
        try:
            self.ledger.append(meter.collect_events())
        except IntegrityError:  # configured by somebody else in between
            return self._the_same(self.ledger.meter(name), rules, display_name)
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

    def meter(self, event_name: str) -> MeterView:
        """One meter. Raises NoMeter."""
        return MeterView.of(self.ledger.meter(event_name))

    def all(self) -> list[MeterView]:
        """All meters, ordered by event name."""
        return [self.meter(event_name) for event_name in self.ledger.meter_names()]

    def _the_same(self, meter: Meter, rules: Rules, display_name: str | None) -> MeterView:
        if meter.rules != rules or display_name not in (None, meter.display_name):
            raise MeterExists(
                f"A meter {meter.event_name!r} already exists with another display name or other rules: "
                f"{meter.display_name!r}, {meter.rules!r}. Its name can be changed with rename_meter.",
                field="event_name",
                value=meter.event_name,
            )
        return MeterView.of(meter)

    def _now(self) -> datetime:
        return in_utc(self.clock(), "clock")
