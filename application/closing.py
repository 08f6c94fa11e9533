"""Closing periods: the figures of an invoice are frozen, and what is owed on them since is told."""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal

from eventsourcing.persistence import IntegrityError

from ..domain.closed_period import ClosedPeriod, Figures
from ..domain.closed_periods import ClosedPeriods
from ..domain.counting import digest
from ..domain.errors import PeriodNotClosed
from ..domain.instants import in_utc, microseconds
from ..domain.policy import AcceptancePolicy
from ..domain.quantities import EXACT, ZERO, billable
from ..domain.texts import shown
from ..projections.rows import AsOf, ProjectedMeter, Rows
from ..projections.totals import Totals
from ..projections.usage_view import Standing, UsageView
from .arguments import known_as_of, note, open_range, text, time_range
from .ledger import Ledger
from .reading import Asked, UsageReader, fields_of, verdict_of
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
        _names(event_name, customer)
        bounds = time_range(start, end)
        while True:
            now = in_utc(self.clock(), "clock")
            periods = self.ledger.closed_periods(event_name, customer)
            periods = periods or ClosedPeriods.begin(event_name, customer, at=now)
            closed = periods.standing(start, end)
            if closed is None:
                self.policy.check_period_end(in_utc(end, "end"), now)
                with self.reader.caught_up() as rows:
                    figures = figures_of(self.reader.asked(rows, event_name), customer, bounds)
                closed = periods.close(start, end, figures, at=now, policy=self.policy)
            try:
                self.ledger.append(periods.collect_events())
            except IntegrityError:
                continue  # somebody else closed or reopened a period of theirs meanwhile
            return closed

    def reopen(
        self, event_name: str, customer: str, start: datetime, end: datetime, reason: str, by: str | None
    ) -> ClosedPeriod:
        """Let a closed period be closed anew; give its closing, which is kept."""
        _names(event_name, customer)
        given, asker = text(reason, "reason", 500), note(by, "by")
        while True:
            periods = self.ledger.closed_periods(event_name, customer)
            if periods is None:
                self.ledger.meter(event_name)
                raise PeriodNotClosed(
                    f"No period of {shown(customer)} on {event_name!r} was ever closed.", field="start", value=start
                )
            closed = periods.reopen(start, end, reason=given, by=asker, at=in_utc(self.clock(), "clock"))
            try:
                self.ledger.append(periods.collect_events())
            except IntegrityError:
                continue
            return closed

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
        _names(event_name, customer)
        bounds, known = open_range(start, end), known_as_of(as_of)
        self.ledger.meter(event_name)
        return self._closed(event_name, customer, bounds, known, reopened=reopened)

    def adjustments(
        self,
        event_name: str,
        customer: str | None,
        start: datetime | None,
        end: datetime | None,
        as_of: datetime | int | None,
    ) -> list[Adjustment]:
        """What is owed on each closed period that touches [start, end), where anything happened since."""
        _names(event_name, customer)
        bounds, known = open_range(start, end), known_as_of(as_of)
        with self.reader.caught_up() as rows:
            asked = self.reader.asked(rows, event_name, known)
            meter = rows.meters()[event_name]
            periods = self._closed(event_name, customer, bounds, known or AsOf(position=rows.position()))
            found = [self._adjustment(rows, meter, asked, period) for period in periods]
        return [one for one in found if one.events or one.rules_difference]

    def _closed(
        self,
        event_name: str,
        customer: str | None,
        bounds: tuple[int | None, int | None],
        as_of: AsOf | None,
        *,
        reopened: bool = False,
    ) -> list[ClosedPeriod]:
        first, last = bounds
        return [
            one
            for periods in self.ledger.closings(event_name, as_of)
            if customer is None or periods.customer == customer
            for one in sorted(periods.closings, key=lambda one: (one.start, one.closed_at))
            if (reopened or one.is_standing)
            and (first is None or microseconds(one.end) > first)
            and (last is None or microseconds(one.start) < last)
        ]

    def _adjustment(self, rows: Rows, meter: ProjectedMeter, asked: Asked, period: ClosedPeriod) -> Adjustment:
        view = self.reader.view(rows, meter, period.rules)
        then = AsOf(position=period.position)
        before, now = (_standings(view, period, known) for known in (then, asked.as_of))
        totals_before, totals = (_totals(standings) for standings in (before, now))
        changes = {
            position: EXACT.subtract(
                _contribution(now.get(position), totals, view), _contribution(before.get(position), totals_before, view)
            )
            for position in now
        }
        touched = [one for position, one in now.items() if _is_touched(one, before.get(position), changes[position])]
        quantity = totals.quantity(period.rules.formula)
        in_force = _totals(_standings(asked.view, period, asked.as_of)).quantity(asked.rules.formula)
        return Adjustment(
            period=period,
            quantity=quantity,
            billable=billable(quantity),
            difference=EXACT.subtract(quantity, period.quantity),
            billable_difference=EXACT.subtract(billable(quantity), period.billable),
            rules_difference=EXACT.subtract(in_force, quantity),
            position=asked.position,
            events=tuple(
                AdjustingEvent(
                    **fields_of(event),
                    before=verdict_of(before[event.position]) if event.position in before else None,
                    change=changes[event.position],
                )
                for event in self.reader.described(touched, period.rules)
            ),
        )


def figures_of(asked: Asked, customer: str, bounds: tuple[int, int]) -> Figures:
    """What a customer's period comes to, as it is known."""
    standings = asked.view.standings(asked.customer(customer), *bounds, asked.as_of)
    counted = [one.usage for one in standings if one.counts is one.usage]
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


def _standings(view: UsageView, period: ClosedPeriod, as_of: AsOf | None) -> dict[int, Standing]:
    number = view.source.customer_number(period.customer) or 0
    standings = view.standings(number, microseconds(period.start), microseconds(period.end), as_of)
    return {one.usage.position: one for one in standings}


def _totals(standings: Mapping[int, Standing]) -> Totals:
    return Totals.of([one.usage for one in standings.values() if _counts(one)])


def _counts(standing: Standing | None) -> bool:
    return standing is not None and standing.counts is standing.usage


def _is_touched(now: Standing, before: Standing | None, change: Decimal) -> bool:
    """Whether an event was recorded or cancelled since, or came to count or not, or adds otherwise to the figure."""
    return before is None or verdict_of(now) != verdict_of(before) or change != 0


def _contribution(standing: Standing | None, totals: Totals, view: UsageView) -> Decimal:
    if standing is None or not _counts(standing):
        return ZERO
    return totals.contribution(standing.usage, view.rules.formula)


def _names(event_name: object, customer: object) -> None:
    text(event_name, "event_name", 100)
    if customer is not None:
        text(customer, "customer", MOST_CHARACTERS)
