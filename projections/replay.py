"""Totals out of the ledger alone: an account of its own, which shares the rules with the fold and nothing else.

First all cancels are read; then the uses, from the ledger's newest page to its oldest, so that the report that counts
in a window is known before those that it replaced. Pages are counted apart from each other: where there are many, by
other processes.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import reduce
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

import msgspec

from ..domain.counting import window_start
from ..domain.errors import TallybookError
from ..domain.instants import microseconds
from ..domain.meter_event import ReportedUse
from ..domain.quantities import EXACT, ZERO
from ..domain.rules import EventTimeWindow, Rules
from .elsewhere import Call, PagesElsewhere, Span
from .pages_ahead import NotPutTogether, PageRead, PagesAhead, no_rows, nothing_from
from .projector import PAGE_SIZE
from .rows import LedgerPages, StoredPage
from .stored_events import StoredEvent, cancelled_uses, stopped, topic_of
from .totals import Totals

Use = tuple[str, datetime, int, Decimal | None, tuple[str, ...]]
"""Whose a use is, when it happened, its position, value and dimension values."""
Place = tuple[str, tuple[str, ...], int]
"""Customer, dimension values and start of a window, in which one use counts."""


class Question(NamedTuple):
    """What the usage of a meter in [start, end) adds up to by `rules`."""

    event_name: str
    rules: Rules
    start: datetime
    end: datetime


class PageCount(NamedTuple):
    """What is counted of one page: `totals` by customer, or under a window the `newest` use of each in this page."""

    totals: dict[str, Totals]
    newest: list[Use]


class _Sum:
    """What is counted of one customer's uses so far: their values, and the latest of them."""

    __slots__ = ("at", "last", "position", "values")

    def __init__(self) -> None:
        self.values: list[Decimal | None] = []
        self.at = datetime.min.replace(tzinfo=UTC)
        self.position = 0
        self.last: Decimal | None = None

    def totals(self) -> Totals:
        """What they add up to."""
        total = reduce(EXACT.add, [value for value in self.values if value is not None], ZERO)
        return Totals(total, len(self.values), self.last, microseconds(self.at), self.position)


def replayed_totals(ledger: LedgerPages, asked: Question) -> dict[str, Totals]:
    """What is asked for, for each customer where any usage counts.

    Raises ProjectionStopped at a use that can't be read.
    """
    window = asked.rules.event_time_window
    totals: defaultdict[str, Totals] = defaultdict(Totals)
    taken: set[Place] = set()
    for page in _newest_first(ledger, asked):
        of_windows = {} if window is None else _added_up(_not_taken(page.newest, window, taken), asked)
        for customer, of_page in chain(page.totals.items(), of_windows.items()):
            totals[customer] = totals[customer].merge(of_page)
    return totals


def count(events: Iterable[StoredEvent], asked: Question, cancelled: Collection[int]) -> PageCount:
    """Count one page, without the uses that are `cancelled`."""
    window = asked.rules.event_time_window
    uses = _uses(events, asked, cancelled)
    if window is None:
        return PageCount(_added_up(uses, asked), [])
    return PageCount({}, _not_taken(uses, window, set()))


def count_apart(page: StoredPage, span: Span, asked: Question, cancelled: Collection[int]) -> bytes:
    """The same, for another process to be told; nothing where the page isn't read as it was put together."""
    events = PageRead(no_rows, page, *span, PAGE_SIZE)
    try:
        counted = count(events, asked, cancelled)
    except (TallybookError, NotPutTogether):
        return b""
    return _encode(counted) if events.position == span[1] else b""


def _newest_first(ledger: LedgerPages, asked: Question) -> Iterator[PageCount]:
    """What is counted of each page, the newest first."""
    head = ledger.head()
    elsewhere: PagesElsewhere[bytes] = PagesElsewhere(ledger, head)
    with PagesAhead(ledger, PAGE_SIZE, PAGE_SIZE) as pages, elsewhere:
        cancelled = sorted(cancelled_uses(ledger, head))

        def cancelled_in(span: Span) -> frozenset[int]:
            after, until = (bisect_right(cancelled, position) for position in span)
            return frozenset(cancelled[after:until])

        def counted_apart(span: Span, page: StoredPage, call: Call) -> bytes:
            return call(count_apart, page, span, asked, cancelled_in(span))

        spans = [(after, min(after + PAGE_SIZE, head)) for after in reversed(range(0, head, PAGE_SIZE))]
        for place, span in enumerate(spans):
            following = spans[place + 1 :]
            told = elsewhere.told(span, following, counted_apart)
            if told:
                yield _decode(told)
                continue
            page = pages.read(*span)
            if following and not elsewhere.are_there:
                pages.fetch(following[0][0])
            yield count(page, asked, cancelled_in(span))
            if page.position < span[1]:
                raise nothing_from(page.position + 1)


def _uses(events: Iterable[StoredEvent], asked: Question, cancelled: Collection[int]) -> Iterator[Use]:
    """The uses of the meter."""
    event_name, read = asked.event_name, asked.rules.reader()
    for position, event in events:
        if type(event) is ReportedUse and event.event_name == event_name:
            try:
                customer, value, dimensions = read(event.payload)
            except TallybookError as error:
                raise stopped(position, topic_of(event), error) from error
            if position not in cancelled:
                yield customer, event.occurred_at, position, value, dimensions


def _not_taken(uses: Iterable[Use], window: EventTimeWindow, taken: set[Place]) -> list[Use]:
    """The newest of each window, where nothing newer was `taken` for it."""
    newest: list[Use] = []
    for use in sorted(uses, key=_POSITION, reverse=True):
        customer, at, _, _, dimensions = use
        place = (customer, dimensions, window_start(microseconds(at), window))
        if place not in taken:
            taken.add(place)
            newest.append(use)
    return newest


def _added_up(uses: Iterable[Use], asked: Question) -> dict[str, Totals]:
    """What those of `uses` that happened in the range add up to, by customer."""
    start, end = asked.start, asked.end
    sums: defaultdict[str, _Sum] = defaultdict(_Sum)
    for customer, at, position, value, _ in uses:
        if start <= at < end:
            of = sums[customer]
            of.values.append(value)
            if (at, position) > (of.at, of.position):
                of.at, of.position, of.last = at, position, value
    return {customer: of.totals() for customer, of in sums.items()}


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(PageCount).decode
_POSITION = itemgetter(2)
