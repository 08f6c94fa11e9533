"""Totals out of the ledger alone: an account of its own, which shares the rules with the fold and nothing else.

The ledger is read from its newest page to its oldest, so that a cancel is known before the use that it is about, and
the report that counts in a window before those that it replaced.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from functools import reduce

from ..domain.counting import window_start
from ..domain.errors import TallybookError
from ..domain.instants import microseconds
from ..domain.meter_event import ReportedUse
from ..domain.quantities import EXACT, ZERO
from ..domain.rules import Rules
from .pages_ahead import PageRead, PagesAhead, nothing_from
from .projector import PAGE_SIZE
from .rows import LedgerPages
from .stored_events import Cancel, StoredEvent, stopped, topic_of
from .totals import Totals

Use = tuple[datetime, int, Decimal | None, tuple[str, ...]]
"""When a use happened, its position, value and dimension values: by time and position if sorted."""


def replayed_totals(
    ledger: LedgerPages, event_name: str, rules: Rules, start: datetime, end: datetime
) -> dict[str, Totals]:
    """What the usage of a meter in [start, end) adds up to by `rules` for each customer, where any counts.

    Raises ProjectionStopped at a use that can't be read.
    """
    replay = _Replay(event_name, rules, start, end)
    for page in _newest_first(ledger):
        replay.add(page)
    return {customer: totals for customer, totals in replay.totals.items() if totals.count}


class _Replay:
    """What is counted so far, the newest of the ledger first."""

    def __init__(self, event_name: str, rules: Rules, start: datetime, end: datetime) -> None:
        self.totals: defaultdict[str, Totals] = defaultdict(Totals)
        self._event_name = event_name
        self._read = rules.reader()
        self._window = rules.event_time_window
        self._start = start
        self._end = end
        self._cancelled: set[int] = set()
        self._taken: set[tuple[str, tuple[str, ...], int]] = set()

    def add(self, events: Iterable[StoredEvent]) -> None:
        """Count an older page."""
        for customer, uses in self._uses(events).items():
            standing = [use for use in uses if use[1] not in self._cancelled] if self._cancelled else uses
            counted = sorted(standing if self._window is None else self._newest(customer, standing))
            if counted and not self._start <= counted[0][0] <= counted[-1][0] < self._end:
                counted = [use for use in counted if self._start <= use[0] < self._end]
            self.totals[customer] = self.totals[customer].merge(_added_up(counted))

    def _uses(self, events: Iterable[StoredEvent]) -> defaultdict[str, list[Use]]:
        """The uses of the meter, by customer; what is cancelled is remembered."""
        event_name, read = self._event_name, self._read
        uses: defaultdict[str, list[Use]] = defaultdict(list)
        for position, event in events:
            if type(event) is ReportedUse:
                if event.event_name == event_name:
                    try:
                        customer, value, dimensions = read(event.payload)
                    except TallybookError as error:
                        raise stopped(position, topic_of(event), error) from error
                    uses[customer].append((event.occurred_at, position, value, dimensions))
            elif isinstance(event, Cancel):
                self._cancelled.add(event.recorded_position)
        return uses

    def _newest(self, customer: str, uses: Sequence[Use]) -> Sequence[Use]:
        """The newest of each window, where nothing newer was counted for it."""
        assert self._window is not None
        newest: list[Use] = []
        for use in sorted(uses, key=lambda use: use[1], reverse=True):
            place = (customer, use[3], window_start(microseconds(use[0]), self._window))
            if place not in self._taken:
                self._taken.add(place)
                newest.append(use)
        return newest


def _added_up(uses: Sequence[Use]) -> Totals:
    """What uses in order add up to."""
    if not uses:
        return Totals()
    last_at, last_position, last, _ = uses[-1]
    values = [use[2] for use in uses if use[2] is not None]
    return Totals(reduce(EXACT.add, values, ZERO), len(uses), last, microseconds(last_at), last_position)


def _newest_first(ledger: LedgerPages) -> Iterator[PageRead]:
    """The ledger's events by pages, the newest first."""
    head = ledger.head()
    with PagesAhead(ledger, PAGE_SIZE, PAGE_SIZE) as pages:
        for after in reversed(range(0, head, PAGE_SIZE)):
            end = min(after + PAGE_SIZE, head)
            page = pages.read(after, end)
            if after:
                pages.fetch(after - PAGE_SIZE)
            yield page
            if page.position < end:
                raise nothing_from(page.position + 1)
