"""Totals out of the ledger alone: an account of its own, which shares the rules with the fold and nothing else.

The ledger is read from its newest page to its oldest, so that a cancel is known before the use that it is about, and
the report that counts in a window before those that it replaced. Pages are counted apart from each other: where there
are many, by other processes.
"""

import threading
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime
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
from .rows import LedgerEvent, LedgerPages, StoredPage
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

    __slots__ = ("latest", "values")

    def __init__(self, first: Use) -> None:
        self.values: list[Decimal | None] = []
        self.latest = first

    def totals(self) -> Totals:
        """What they add up to."""
        _, at, position, last, _ = self.latest
        total = reduce(EXACT.add, [value for value in self.values if value is not None], ZERO)
        return Totals(total, len(self.values), last, microseconds(at), position)


def replayed_totals(ledger: LedgerPages, asked: Question) -> dict[str, Totals]:
    """What is asked for, for each customer where any usage counts.

    Raises ProjectionStopped at a use that can't be read.
    """
    window = asked.rules.event_time_window
    totals: defaultdict[str, Totals] = defaultdict(Totals)
    taken: set[Place] = set()
    for page in _newest_first(ledger, asked):
        of_windows = {} if window is None else _added_up(reversed(_not_taken(page.newest, window, taken)), asked)
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


class _Cancelled:
    """Which uses are cancelled, by the page that they are in, as far as cancels were found in pages; by any thread."""

    def __init__(self) -> None:
        self._of: defaultdict[int, set[int]] = defaultdict(set)
        self._changing = threading.Lock()

    def find(self, others: Iterable[LedgerEvent]) -> None:
        """Find those that are cancelled by an event among `others`. Raises ProjectionStopped."""
        positions = list(cancelled_uses(others))
        with self._changing:
            for position in positions:
                self._of[(position - 1) // PAGE_SIZE].add(position)

    def within(self, span: Span) -> frozenset[int]:
        """Those that were found of one page."""
        with self._changing:
            return frozenset(self._of[span[0] // PAGE_SIZE])


class _CountedApart(NamedTuple):
    """A page as it was counted, without the uses that were known to be cancelled by then."""

    counted: bytes
    cancelled: frozenset[int]


def _newest_first(ledger: LedgerPages, asked: Question) -> Iterator[PageCount]:
    """What is counted of each page, the newest first."""
    head, cancelled = ledger.head(), _Cancelled()

    def counted_apart(span: Span, page: StoredPage, call: Call) -> _CountedApart:
        cancelled.find(page.others)
        found = cancelled.within(span)
        return _CountedApart(call(count_apart, page, span, asked, found), found)

    spans = [(after, min(after + PAGE_SIZE, head)) for after in reversed(range(0, head, PAGE_SIZE))]
    elsewhere: PagesElsewhere[_CountedApart] = PagesElsewhere(ledger, head)
    with PagesAhead(ledger, PAGE_SIZE, PAGE_SIZE) as pages, elsewhere:
        for place, span in enumerate(spans):
            following = spans[place + 1 :]
            told = elsewhere.told(span, following, counted_apart)
            # All newer pages were looked at by now; perhaps not yet when this one was counted.
            if told and told.counted and told.cancelled == cancelled.within(span):
                yield _decode(told.counted)
                continue
            page = pages.read(*span)
            if following and not elsewhere.are_there:
                pages.fetch(following[0][0])
            cancelled.find(page.others)
            yield count(page, asked, cancelled.within(span))
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
    """The newest of each window, where nothing newer was `taken` for it; the newest first."""
    newest: list[Use] = []
    for use in sorted(uses, key=_POSITION, reverse=True):
        customer, at, _, _, dimensions = use
        place = (customer, dimensions, window_start(microseconds(at), window))
        if place not in taken:
            taken.add(place)
            newest.append(use)
    return newest


def _added_up(uses: Iterable[Use], asked: Question) -> dict[str, Totals]:
    """What those of `uses`, in the ledger's order, that happened in the range add up to, by customer."""
    start, end = asked.start, asked.end
    sums: dict[str, _Sum] = {}
    for use in uses:
        customer, at, _, value, _ = use
        if start <= at < end:
            of = sums.get(customer)
            if of is None:
                of = sums[customer] = _Sum(use)
            of.values.append(value)
            if at >= of.latest[1]:
                of.latest = use
    return {customer: of.totals() for customer, of in sums.items()}


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(PageCount).decode
_POSITION = itemgetter(2)
