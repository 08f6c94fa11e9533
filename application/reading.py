"""The way out: totals, summaries, lists and explanations."""

import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from decimal import Decimal
from functools import cache, partial
from itertools import islice, pairwise
from typing import NamedTuple

from ..domain.calendar import CalendarWindow, zone
from ..domain.counting import digest
from ..domain.errors import InvalidIdentifier, LedgerUnavailable, NoMeter, NoMeterEvent, NotPermitted
from ..domain.instants import instant, microseconds
from ..domain.meter_event import MeterEvent, ReportedUse
from ..domain.quantities import ZERO, billable
from ..domain.rules import Reader, Rules
from ..projections.projector import Projector
from ..projections.replay import Question, replayed_totals
from ..projections.rows import AsOf, ProjectedMeter, Rows
from ..projections.totals import Totals
from ..projections.usage_source import FoldedUsage, UsageReadAnew
from ..projections.usage_view import Standing, UsageView
from .again import again_if_lost
from .arguments import choice, known_as_of, number, open_range, text, time_range
from .ledger import Ledger
from .results import ExplainedEvent, Explanation, MeterEventView, Total, Verdict
from .stores.store import MADE_ANEW, NothingProjected
from .tiling import tiles

MOST_EVENTS = 10_000
_TRIES = 100
WAITING_SECONDS = 30
"""How long who may not fold waits for who does."""
_LOOK_EVERY_SECONDS = 0.02

Told = tuple[
    str, str, str, Decimal | None, tuple[str, ...], dict[str, str], datetime, datetime, int, Verdict,
    str | None, datetime | None, str | None, str | None,
]  # fmt: skip
"""The fields of a MeterEventView, in their order."""


class Asked(NamedTuple):
    """A question about one meter in one consistent state of the read models, under the rules it is asked under."""

    view: UsageView
    revision: int
    known: Callable[[], int]
    as_of: AsOf | None

    @property
    def position(self) -> int:
        """The last position that the answer knows of. To find that of a moment takes some looking up."""
        return self.known()

    @property
    def rules(self) -> Rules:
        """The rules that the figures follow."""
        return self.view.rules

    def customer(self, customer: str | None) -> int | None:
        """The customer's number; 0, which no customer has, where there is no usage of theirs."""
        return None if customer is None else self.view.source.customer_number(customer) or 0


class UsageReader:
    """Answers questions about usage; never from before the call."""

    def __init__(self, ledger: Ledger, projector: Projector, follow_rules: Callable[[], None]) -> None:
        self.ledger = ledger
        self.projector = projector
        self.follow_rules = follow_rules

    @again_if_lost
    def total(
        self, event_name: str, customer: str | None, start: datetime, end: datetime, as_of: datetime | int | None
    ) -> Total:
        """One customer's total; the whole meter's where customer is None."""
        boundaries = time_range(start, end)
        with self._asking(event_name, customer, as_of) as asked:
            totals = asked.view.totals(asked.customer(customer), boundaries, asked.as_of)
            return _total(Totals.together(list(totals.values())), asked.rules, customer, start, end)

    @again_if_lost
    def totals(self, event_name: str, start: datetime, end: datetime, as_of: datetime | int | None) -> list[Total]:
        """The total of each customer with usage that counts, ordered by customer."""
        boundaries = time_range(start, end)
        with self._asking(event_name, None, as_of) as asked:
            totals = {number: of for (_, number), of in asked.view.totals(None, boundaries, asked.as_of).items()}
            names = asked.view.source.customer_names(totals)
            return [
                _total(totals[number], asked.rules, name, start, end)
                for number, name in sorted(names.items(), key=lambda item: item[1])
            ]

    @again_if_lost
    def totals_from_ledger(self, event_name: str, start: datetime, end: datetime) -> list[Total]:
        """The same, counted from the ledger alone."""
        time_range(start, end)
        rules = self.ledger.meter(text(event_name, "event_name", 100)).rules
        totals = replayed_totals(self.ledger, Question(event_name, rules, start, end))
        return [_total(of, rules, name, start, end) for name, of in sorted(totals.items())]

    @again_if_lost
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
            boundaries = tiles((first, last), asked.view.source.extent(who) or (0, 0), span, local)
            by_window: defaultdict[int, list[Totals]] = defaultdict(list)
            for (index, _), of in asked.view.totals(who, boundaries, asked.as_of).items():
                by_window[index].append(of)
            edges = list(pairwise(instant(at) for at in boundaries))
            return [
                _total(Totals.together(parts), asked.rules, customer, *edges[index])
                for index, parts in sorted(by_window.items())
            ]

    @again_if_lost
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
            used = asked.view.source.extent(who)
            if used is None:
                return []
            first = used[0] if first is None else first
            last = used[1] if last is None else last
            after = None if starting_after is None else self._place_of(starting_after, event_name)
            standings = asked.view.standings(who, first if after is None else max(first, after[0]), last, asked.as_of)
            if after is not None:
                standings = (one for one in standings if (one.usage.occurred_at, one.usage.position) > after)
            return self.described(list(islice(standings, limit)), asked.rules)

    @again_if_lost
    def event(self, identifier: str, as_of: datetime | int | None) -> MeterEventView:
        """One meter event, with its verdict. Raises NoMeterEvent, also as of a time before it was recorded."""
        known = known_as_of(as_of)
        found = self.ledger.held((text(identifier, "identifier", 100),)).get(identifier)
        if found is None or not (known is None or known.includes(microseconds(found.use.recorded_at), found.position)):
            raise NoMeterEvent(
                f"No meter event is recorded under the identifier {identifier!r}, or none was then.",
                field="identifier",
                value=identifier,
            )
        at = microseconds(found.use.occurred_at)
        with self._asking(found.use.event_name, None, as_of) as asked:
            who = asked.customer(asked.rules.read(found.use.payload)[0])
            standings = asked.view.standings(who, at, at + 1, asked.as_of)
            return self.described([one for one in standings if one.usage.position == found.position], asked.rules)[0]

    @again_if_lost
    def explain(
        self, event_name: str, customer: str | None, start: datetime, end: datetime, as_of: datetime | int | None
    ) -> Explanation:
        """Every meter event behind a total, with its verdict."""
        boundaries = time_range(start, end)
        with self._asking(event_name, customer, as_of) as asked:
            standings = list(asked.view.standings(asked.customer(customer), *boundaries, asked.as_of))
        rules = asked.rules
        counted = [one.usage for one in standings if one.is_counted]
        totals = Totals.of(counted)
        return Explanation(
            _total(totals, rules, customer, start, end),
            rules.formula,
            rules.event_time_window,
            asked.revision,
            asked.position,
            digest(counted),
            tuple(
                ExplainedEvent(*told, totals.contribution(one.usage, rules.formula) if one.is_counted else ZERO)
                for one, told in zip(standings, self.told(standings, rules), strict=True)
            ),
        )

    @contextmanager
    def _asking(self, event_name: str, customer: str | None, as_of: datetime | int | None) -> Generator[Asked]:
        text(event_name, "event_name", 100)
        if customer is not None:
            text(customer, "customer", 5_000)
        known = known_as_of(as_of)
        with self.caught_up() as rows:
            yield self.asked(rows, event_name, known)

    def asked(self, rows: Rows, event_name: str, as_of: AsOf | None = None) -> Asked:
        """A question about a meter, under the rules that were in force then. Raises NoMeter."""
        meter = rows.meters().get(event_name)
        if meter is None:
            raise NoMeter(
                f"There is no meter {event_name!r}; configure it first.", field="event_name", value=event_name
            )
        in_force = meter.in_force(as_of)
        known = cache(partial(self._known, rows.position(), as_of))
        return Asked(self.view(rows, meter, in_force.rules), in_force.revision, known, as_of)

    def view(self, rows: Rows, meter: ProjectedMeter, rules: Rules) -> UsageView:
        """The usage of a meter under `rules`."""
        folded = FoldedUsage(rows, meter)
        return UsageView(folded if rules == meter.rules else UsageReadAnew(folded, rules, self._payloads))

    @contextmanager
    def caught_up(self, *, also_damaged: bool = False) -> Generator[Rows]:
        """Rows with all in them that was stored before, folded under the rules that are in force.

        Tried again where the read models were deleted, or others promoted, in between. Those that say of themselves,
        in the end, that they are under other rules are `also_damaged` ones.
        """
        head, is_behind, tries_left = self.projector.head(), True, _TRIES
        waited_from = time.monotonic()
        while tries_left:
            tries_left -= 1
            position, is_behind = 0, True
            with ExitStack() as session:
                rows = self._rows(session)
                if rows is not None:
                    position = rows.position()
                    is_behind = position < head or (position > head and position > self.projector.head())
                    is_current = all(meter.is_current for meter in rows.meters().values())
                    if (is_current or (also_damaged and not tries_left)) and not is_behind:
                        yield rows
                        return
            try:
                if is_behind:
                    self.projector.catch_up()
                else:
                    self.follow_rules()
            except NotPermitted as refused:
                if time.monotonic() - waited_from > WAITING_SECONDS:
                    raise _nobody_projects(position, head) from refused
                time.sleep(_LOOK_EVERY_SECONDS)
                tries_left += 1
        raise LedgerUnavailable(
            "The read models are deleted again and again while they are read."
            if is_behind
            else f"The read models are not under the rules in force. {MADE_ANEW}"
        )

    def _rows(self, session: ExitStack) -> Rows | None:
        """Rows to read while the session lasts; None before there are any, where others have to make them."""
        try:
            return session.enter_context(self.projector.views.reading())
        except NothingProjected:
            return None

    def keep_up(self) -> int:
        """Bring the read models up to date, and under the rules in force; give the position they reached."""
        with self.caught_up() as rows:
            return rows.position()

    def _known(self, head: int, as_of: AsOf | None) -> int:
        """The last position that was known then, the same whenever it is asked for."""
        if as_of is None:
            return head
        if as_of.position is not None:
            return min(head, as_of.position)
        assert as_of.recorded_at is not None
        return self.ledger.position_at(as_of.recorded_at, head)

    def _payloads(self, positions: Iterable[int]) -> Mapping[int, Mapping[str, str]]:
        return {position: use.payload for position, (_, use) in self.ledger.recordings(positions).items()}

    def _place_of(self, identifier: str, event_name: str) -> tuple[int, int]:
        found = self.ledger.held((text(identifier, "starting_after", 100),)).get(identifier)
        if found is None or found.use.event_name != event_name:
            raise InvalidIdentifier(
                f"No event of the meter {event_name!r} is recorded under {identifier!r}.",
                field="starting_after",
                value=identifier,
            )
        return microseconds(found.use.occurred_at), found.position

    def described(self, standings: Sequence[Standing], rules: Rules) -> list[MeterEventView]:
        """The meter events as they were reported, and what became of them, from the ledger."""
        return [MeterEventView(*told) for told in self.told(standings, rules)]

    def told(self, standings: Sequence[Standing], rules: Rules) -> Iterator[Told]:
        """The same, as the fields of a MeterEventView."""
        positions = {one.usage.position for one in standings}
        positions |= {one.counts.position for one in standings if one.counts is not None}
        recordings = self.ledger.recordings(positions)
        marks = (one.usage.cancelled_position for one in standings)
        cancels = self.ledger.cancels(position for position in marks if position is not None)
        read = rules.reader()
        return (_told(one, read, recordings, cancels) for one in standings)


def _nobody_projects(position: int, head: int) -> LedgerUnavailable:
    return LedgerUnavailable(
        f"The read models are at position {position}, the ledger at {head}, and this user may not fold them. Run "
        "'tallybook projection run' as one who may."
    )


def verdict_of(one: Standing) -> Verdict:
    """Whether a usage counts, or why it doesn't."""
    if one.counts is None:
        return Verdict.CANCELLED
    return Verdict.COUNTED if one.is_counted else Verdict.OVERWRITTEN


def _total(totals: Totals, rules: Rules, customer: str | None, start: datetime, end: datetime) -> Total:
    value = totals.quantity(rules.formula)
    return Total(value, totals.sum, totals.count, totals.last, billable(value), customer, start, end)


def _told(
    one: Standing,
    read: Reader,
    recordings: Mapping[int, tuple[str, ReportedUse]],
    cancels: Mapping[int, MeterEvent.EventCancelled],
) -> Told:
    usage, counts = one.usage, one.counts
    identifier, use = recordings[usage.position]
    overwritten_by = None if counts is None or counts is usage else recordings[counts.position][0]
    cancelled_at = reason = by = None
    if usage.cancelled_position is not None:
        cancel = cancels[usage.cancelled_position]
        cancelled_at, reason, by = cancel.timestamp, cancel.reason, cancel.by
    return (
        use.event_name, identifier, *read(use.payload), use.payload, use.occurred_at, use.recorded_at, usage.position,
        verdict_of(one), overwritten_by, cancelled_at, reason, by,
    )  # fmt: skip
