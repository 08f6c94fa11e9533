"""The way out: totals, summaries, lists and explanations."""

from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import reduce
from itertools import islice, pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from ..domain.calendar import CalendarWindow, window_around, windows, zone
from ..domain.errors import InvalidIdentifier, InvalidParameter, LedgerUnavailable, NoMeter
from ..domain.instants import instant, microseconds
from ..domain.meter_event import MeterEvent, ReportedUse
from ..domain.quantities import billable
from ..domain.rules import Rules
from ..projections.projector import Projector
from ..projections.rows import AsOf, ProjectedMeter, Rows
from ..projections.totals import Totals
from ..projections.usage_view import Standing, UsageView
from .arguments import choice, known_as_of, number, open_range, text, time_range
from .ledger import Ledger
from .results import Explanation, MeterEventView, Total, Verdict

MOST_WINDOWS = 100_000
MOST_EVENTS = 10_000
_TRIES = 10


class _Asked(NamedTuple):
    """A question in one consistent state of the read models."""

    view: UsageView
    rows: Rows
    meter: ProjectedMeter
    as_of: AsOf | None

    def customer(self, customer: str | None) -> int | None:
        """The customer's number; 0, which no customer has, where there is no usage of theirs."""
        return None if customer is None else self.rows.customer_number(customer) or 0


class UsageReader:
    """Answers questions about usage; never from before the call."""

    def __init__(self, ledger: Ledger, projector: Projector) -> None:
        self.ledger = ledger
        self.projector = projector

    def total(
        self, event_name: str, customer: str | None, start: datetime, end: datetime, as_of: datetime | int | None
    ) -> Total:
        """One customer's total; the whole meter's where customer is None."""
        boundaries = time_range(start, end)
        with self._asking(event_name, customer, as_of) as asked:
            totals = asked.view.totals(asked.customer(customer), boundaries, asked.as_of)
            return _total(_merged(totals.values()), asked.meter.rules, customer, start, end)

    def totals(self, event_name: str, start: datetime, end: datetime, as_of: datetime | int | None) -> list[Total]:
        """The total of each customer with usage that counts, ordered by customer."""
        boundaries = time_range(start, end)
        with self._asking(event_name, None, as_of) as asked:
            totals = {number: of for (_, number), of in asked.view.totals(None, boundaries, asked.as_of).items()}
            names = asked.rows.customer_names(totals)
            return [
                _total(totals[number], asked.meter.rules, name, start, end)
                for number, name in sorted(names.items(), key=lambda item: item[1])
            ]

    def summaries(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        window: str,
        timezone: str,
        as_of: datetime | int | None,
    ) -> list[Total]:
        """A total for each window in which there is usage that counts, in order."""
        span, local = choice(window, "window", CalendarWindow), zone(timezone)
        first, last = time_range(start, end)
        with self._asking(event_name, customer, as_of) as asked:
            who = asked.customer(customer)
            boundaries = _boundaries(asked, who, (first, last), span, local)
            by_window: defaultdict[int, list[Totals]] = defaultdict(list)
            for (index, _), of in asked.view.totals(who, boundaries, asked.as_of).items():
                by_window[index].append(of)
            edges = list(pairwise(instant(at) for at in boundaries))
            return [
                _total(_merged(parts), asked.meter.rules, customer, *edges[index])
                for index, parts in sorted(by_window.items())
            ]

    def events(
        self,
        event_name: str,
        customer: str | None,
        start: datetime | None,
        end: datetime | None,
        as_of: datetime | int | None,
        limit: int,
        starting_after: str | None,
    ) -> list[MeterEventView]:
        """Up to `limit` meter events in [start, end), by (occurred_at, position), after the one given."""
        number(limit, "limit", 1, MOST_EVENTS)
        first, last = open_range(start, end)
        with self._asking(event_name, customer, as_of) as asked:
            who = asked.customer(customer)
            used = asked.view.extent(who)
            if used is None:
                return []
            first = used[0] if first is None else first
            last = used[1] if last is None else last
            after = None if starting_after is None else self._place_of(starting_after, event_name)
            standings = asked.view.standings(who, first if after is None else max(first, after[0]), last, asked.as_of)
            if after is not None:
                standings = (one for one in standings if (one.usage.occurred_at, one.usage.position) > after)
            return self._described(list(islice(standings, limit)), asked.meter)

    def explain(
        self, event_name: str, customer: str | None, start: datetime, end: datetime, as_of: datetime | int | None
    ) -> Explanation:
        """Every meter event behind a total, with its verdict."""
        boundaries = time_range(start, end)
        with self._asking(event_name, customer, as_of) as asked:
            standings = list(asked.view.standings(asked.customer(customer), *boundaries, asked.as_of))
            position = asked.rows.position()
            if asked.as_of is not None and asked.as_of.position is not None:
                position = min(position, asked.as_of.position)
        rules = asked.meter.rules
        counted = Totals.of([one.usage for one in standings if one.counts is one.usage])
        return Explanation(
            _total(counted, rules, customer, start, end),
            rules.formula,
            rules.event_time_window,
            self.ledger.meter(event_name).revision,
            position,
            tuple(self._described(standings, asked.meter)),
        )

    @contextmanager
    def _asking(self, event_name: str, customer: str | None, as_of: datetime | int | None) -> Generator[_Asked]:
        text(event_name, "event_name", 100)
        if customer is not None:
            text(customer, "customer", 5_000)
        known = known_as_of(as_of)
        with self._caught_up() as rows:
            meter = rows.meters().get(event_name)
            if meter is None:
                raise NoMeter(
                    f"There is no meter {event_name!r}; configure it first.", field="event_name", value=event_name
                )
            yield _Asked(UsageView(rows, meter), rows, meter, known)

    @contextmanager
    def _caught_up(self) -> Generator[Rows]:
        """Rows with all in them that was stored before; tried again where the read models were deleted in between."""
        for _ in range(_TRIES):
            reached = self.projector.catch_up()
            with self.projector.views.reading() as rows:
                if rows.position() >= reached:
                    yield rows
                    return
        raise LedgerUnavailable("The read models are deleted again and again while they are read.")

    def _place_of(self, identifier: str, event_name: str) -> tuple[int, int]:
        found = self.ledger.held((text(identifier, "starting_after", 100),)).get(identifier)
        if found is None or found.use.event_name != event_name:
            raise InvalidIdentifier(
                f"No event of the meter {event_name!r} is recorded under {identifier!r}.",
                field="starting_after",
                value=identifier,
            )
        return microseconds(found.use.occurred_at), found.position

    def _described(self, standings: Sequence[Standing], meter: ProjectedMeter) -> list[MeterEventView]:
        """The meter events as they were reported, and what became of them, from the ledger."""
        positions = {one.usage.position for one in standings}
        positions |= {one.counts.position for one in standings if one.counts is not None}
        recordings = self.ledger.recordings(positions)
        marks = (one.usage.cancelled_position for one in standings)
        cancels = self.ledger.cancels(position for position in marks if position is not None)
        return [_described(one, meter.rules, recordings, cancels) for one in standings]


def _boundaries(
    asked: _Asked, customer: int | None, within: tuple[int, int], window: CalendarWindow, timezone: ZoneInfo
) -> list[int]:
    """The bounds of the windows from the first to the last in which there is any usage."""
    used_from, used_to = asked.view.extent(customer) or (0, 0)
    first, last = max(within[0], used_from), min(within[1], used_to)
    if first >= last:
        return []
    opening = max(instant(within[0]), window_around(instant(first), window, timezone)[0])
    closing = min(instant(within[1]), window_around(instant(last - 1), window, timezone)[1])
    tiles = list(islice(windows(opening, closing, window, timezone), MOST_WINDOWS + 1))
    if len(tiles) > MOST_WINDOWS:
        raise InvalidParameter(
            f"There are more than {MOST_WINDOWS} windows of a {window} in the range; ask for a shorter one.",
            field="window",
            value=str(window),
        )
    return [microseconds(start) for start, _ in tiles] + [microseconds(closing)]


def _merged(parts: Iterable[Totals]) -> Totals:
    return reduce(Totals.merge, parts, Totals())


def _total(totals: Totals, rules: Rules, customer: str | None, start: datetime, end: datetime) -> Total:
    value = totals.quantity(rules.formula)
    return Total(value, totals.sum, totals.count, totals.last, billable(value), customer, start, end)


def _described(
    one: Standing,
    rules: Rules,
    recordings: Mapping[int, tuple[str, ReportedUse]],
    cancels: Mapping[int, MeterEvent.EventCancelled],
) -> MeterEventView:
    position, cancelled_position = one.usage.position, one.usage.cancelled_position
    identifier, use = recordings[position]
    customer, value, dimensions = rules.read(use.payload)
    cancel = None if cancelled_position is None else cancels[cancelled_position]
    overwritten = one.counts is not None and one.counts.position != position
    return MeterEventView(
        event_name=use.event_name,
        identifier=identifier,
        customer=customer,
        value=value,
        dimensions=dimensions,
        payload=use.payload,
        occurred_at=use.occurred_at,
        recorded_at=use.recorded_at,
        position=position,
        verdict=Verdict.CANCELLED if cancel else Verdict.OVERWRITTEN if overwritten else Verdict.COUNTED,
        overwritten_by=recordings[one.counts.position][0] if one.counts and overwritten else None,
        cancelled_at=cancel.timestamp if cancel else None,
        reason=cancel.reason if cancel else None,
        by=cancel.by if cancel else None,
    )
