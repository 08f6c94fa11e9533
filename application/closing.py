"""Closing periods: the figures of an invoice are frozen, and what is owed on them since is told."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from functools import reduce

from eventsourcing.persistence import IntegrityError

from ..domain.closed_period import ClosedPeriod, Figures
from ..domain.closed_periods import ClosedPeriods
from ..domain.counting import digest
from ..domain.errors import PeriodNotClosed
from ..domain.instants import in_utc, microseconds
from ..domain.policy import AcceptancePolicy
from ..domain.quantities import EXACT, ZERO, billable
from ..domain.rules import Formula
from ..domain.texts import shown
from ..projections.rows import AsOf
from ..projections.totals import Totals
from ..projections.usage_view import Change, Standing, UsageView
from .again import again_if_lost
from .arguments import known_as_of, note, open_range, text, time_range
from .ledger import Ledger
from .reading import Asked, UsageReader, verdict_of
from .results import AdjustingEvent, Adjustment

MOST_CHARACTERS = 5_000


class PeriodCloser:
    """Closes periods, reopens them, and tells what is owed on closed ones."""

    def __init__(
        self, ledger: Ledger, reader: UsageReader, policy: AcceptancePolicy, clock: Callable[[], datetime]
    ) -> None:
        self.ledger = ledger
        self.reader = reader
        self.policy = policy
        self.clock = clock

    def close(self, event_name: str, customer: str, start: datetime, end: datetime) -> ClosedPeriod:
        """Freeze a period's figures; give the first closing where it is closed already."""
        _check_names(event_name, customer)
        bounds = time_range(start, end)
        while True:
            periods = self.ledger.closed_periods(event_name, customer)
            periods = periods or ClosedPeriods.begin(event_name, customer, at=self._now())
            closed = periods.standing(start, end)
            if closed is not None:
                return closed
            with self.reader.caught_up() as rows:
                figures = figures_of(self.reader.asked(rows, event_name), customer, bounds)
            # The time is told after the figures, so that all they know of was recorded by then.
            closed = periods.close(start, end, figures, at=self._now(), policy=self.policy)
            try:
                self.ledger.append(periods.collect_events())
            except IntegrityError:
                continue  # somebody else closed or reopened a period of theirs meanwhile
            return closed

    def reopen(
        self, event_name: str, customer: str, start: datetime, end: datetime, reason: str, by: str | None
    ) -> ClosedPeriod:
        """Let a closed period be closed anew; give its closing, which is kept."""
        _check_names(event_name, customer)
        given, asker = text(reason, "reason", 500), note(by, "by")
        while True:
            periods = self.ledger.closed_periods(event_name, customer)
            if periods is None:
                self.ledger.meter(event_name)
                raise PeriodNotClosed(
                    f"No period of {shown(customer)} on {event_name!r} was ever closed.", field="start", value=start
                )
            closed = periods.reopen(start, end, reason=given, by=asker, at=self._now())
            try:
                self.ledger.append(periods.collect_events())
            except IntegrityError:
                continue  # as above
            return closed

    @again_if_lost
    def closed_periods(
        self,
        event_name: str,
        customer: str | None,
        start: datetime | None,
        end: datetime | None,
        as_of: datetime | int | None,
        *,
        reopened: bool,
    ) -> list[ClosedPeriod]:
        """The closed periods that touch [start, end), by customer and start; reopened ones only where asked for."""
        _check_names(event_name, customer, is_anyone_allowed=True)
        bounds, known = open_range(start, end), known_as_of(as_of)
        self.ledger.meter(event_name)
        return [one for one in self._closings(event_name, customer, bounds, known) if reopened or one.is_standing]

    @again_if_lost
    def adjustments(
        self,
        event_name: str,
        customer: str | None,
        start: datetime | None,
        end: datetime | None,
        as_of: datetime | int | None,
    ) -> list[Adjustment]:
        """What is owed on each closed period that touches [start, end), where anything happened since."""
        _check_names(event_name, customer, is_anyone_allowed=True)
        bounds, known = open_range(start, end), known_as_of(as_of)
        with self.reader.caught_up() as rows:
            asked = self.reader.asked(rows, event_name, known)
            meter = rows.meters()[event_name]
            closings = self._closings(event_name, customer, bounds, known or AsOf(position=rows.position()))
            standing = [one for one in closings if one.is_standing]
            rules = {one.revision: one.rules for one in standing}
            views = {revision: self.reader.view(rows, meter, of) for revision, of in rules.items()}
            # By range, as a view may have read all of one range to tell one customer's part in it.
            by_range = sorted(standing, key=lambda one: (one.start, one.end))
            found = [self._adjustment(views[one.revision], asked, one) for one in by_range]
        owed = [one for one in found if one is not None]
        return sorted(owed, key=lambda one: (one.period.customer, one.period.start))

    def _closings(
        self, event_name: str, customer: str | None, bounds: tuple[int | None, int | None], as_of: AsOf | None
    ) -> list[ClosedPeriod]:
        """All closings of periods that touch `bounds`, by customer and start, those of one period in their order."""
        first, last = bounds
        touching = [
            one
            for periods in self.ledger.closings(event_name, customer, as_of)
            for one in periods.closings
            if (first is None or microseconds(one.end) > first) and (last is None or microseconds(one.start) < last)
        ]
        return sorted(touching, key=lambda one: (one.customer, one.start))

    def _adjustment(self, view: UsageView, asked: Asked, period: ClosedPeriod) -> Adjustment | None:
        """What is owed on a period, under the rules that it was closed with; None where nothing has happened."""
        formula = period.rules.formula
        asked = asked._replace(as_of=_knowing(asked.as_of, period))
        history = _history(view, period, asked.as_of)
        before = Totals.of([one.before.usage for one in history if one.before and one.before.is_counted])
        now = Totals.of([one.now.usage for one in history if one.now.is_counted])
        lasts = {before.last_position, now.last_position}
        touched = [
            (one, change)
            for one in history
            if one.before is not one.now or one.now.usage.position in lasts
            if _is_touched(one, change := _change(one, before, now, formula))
        ]
        quantity = now.quantity(formula)
        rules_difference = EXACT.subtract(_in_force(asked, period, quantity), quantity)
        if not touched and not rules_difference and quantity == period.quantity:
            return None
        described = self.reader.told([one.now for one, _ in touched], period.rules)
        return Adjustment(
            period=period,
            quantity=quantity,
            billable=billable(quantity),
            difference=EXACT.subtract(quantity, period.quantity),
            billable_difference=EXACT.subtract(billable(quantity), period.billable),
            rules_difference=rules_difference,
            position=asked.position,
            events=tuple(
                AdjustingEvent(*event, before=one.before and verdict_of(one.before), change=change)
                for event, (one, change) in zip(described, touched, strict=True)
            ),
        )

    def _now(self) -> datetime:
        return in_utc(self.clock(), "clock")


def figures_of(asked: Asked, customer: str, bounds: tuple[int, int]) -> Figures:
    """What a customer's period comes to, as it is known."""
    standings = asked.view.standings(asked.customer(customer), *bounds, asked.as_of)
    counted = [one.usage for one in standings if one.is_counted]
    totals = Totals.of(counted)
    quantity = totals.quantity(asked.rules.formula)
    return Figures(
        quantity=quantity,
        billable=billable(quantity),
        sum=totals.sum,
        count=totals.count,
        last=totals.last,
        rules=asked.rules,
        revision=asked.revision,
        position=asked.position,
        digest=digest(counted),
    )


def _knowing(as_of: AsOf | None, period: ClosedPeriod) -> AsOf | None:
    """`as_of`, and all that a closing knew: whoever knows of it knows of that, also where the clock was put back."""
    return as_of if as_of is None or as_of.position is not None else as_of._replace(position=period.position)


def _history(view: UsageView, period: ClosedPeriod, as_of: AsOf | None) -> list[Change]:
    """What became of a period's usage since it was closed."""
    number = view.source.customer_number(period.customer) or 0
    bounds = microseconds(period.start), microseconds(period.end)
    return list(view.changes(number, *bounds, AsOf(position=period.position), as_of))


def _in_force(asked: Asked, period: ClosedPeriod, quantity: Decimal) -> Decimal:
    """What a period comes to under the rules in force, where it comes to `quantity` under its own."""
    if asked.rules == period.rules:
        return quantity
    bounds = microseconds(period.start), microseconds(period.end)
    totals = asked.view.totals(asked.customer(period.customer), bounds, asked.as_of)
    return reduce(Totals.merge, totals.values(), Totals()).quantity(asked.rules.formula)


def _change(one: Change, before: Totals, now: Totals, formula: Formula) -> Decimal:
    """What an event adds to the figure beyond what it added before."""
    return EXACT.subtract(_contribution(one.now, now, formula), _contribution(one.before, before, formula))


def _contribution(standing: Standing | None, totals: Totals, formula: Formula) -> Decimal:
    if standing is None or not standing.is_counted:
        return ZERO
    return totals.contribution(standing.usage, formula)


def _is_touched(one: Change, change: Decimal) -> bool:
    """Whether an event was recorded or cancelled since, or came to count or not, or adds otherwise to the figure."""
    return one.before is None or verdict_of(one.now) != verdict_of(one.before) or change != 0


def _check_names(event_name: object, customer: object, *, is_anyone_allowed: bool = False) -> None:
    text(event_name, "event_name", 100)
    if customer is not None or not is_anyone_allowed:
        text(customer, "customer", MOST_CHARACTERS)
