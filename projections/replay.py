"""Totals out of the ledger alone: an account of its own, which shares the rules with the fold and nothing else.

First all cancels are read; then the uses, from the ledger's newest page to its oldest, so that the report that counts
in a window is known before those that it replaced. Pages are counted apart from each other: where there are many, by
other processes.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import reduce
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

Use = tuple[datetime, int, Decimal | None, tuple[str, ...]]
"""When a use happened, its position, value and dimension values: by time and position if sorted."""


class Question(NamedTuple):
    """What the usage of a meter in [start, end) adds up to by `rules`."""

    event_name: str
    rules: Rules
    start: datetime
    end: datetime


class PageCount(NamedTuple):
    """What is counted of one page, by customer: `totals`, or under a window the `newest` use of each in this page."""

    totals: dict[str, Totals]
    newest: dict[str, list[Use]]


def replayed_totals(ledger: LedgerPages, asked: Question) -> dict[str, Totals]:
    """What is asked for, for each customer where any usage counts.

    Raises ProjectionStopped at a use that can't be read.
    """
    totals: defaultdict[str, Totals] = defaultdict(Totals)
    taken: set[tuple[str, tuple[str, ...], int]] = set()
    for page in _newest_first(ledger, asked):
        for customer, of_page in page.totals.items():
            totals[customer] = totals[customer].merge(of_page)
        for customer, uses in page.newest.items():
            newest = _not_taken(customer, uses, asked.rules.event_time_window, taken)
            totals[customer] = totals[customer].merge(_added_up(_asked_for(newest, asked)))
    return {customer: of for customer, of in totals.items() if of.count}


def count(events: Iterable[StoredEvent], asked: Question, cancelled: Collection[int]) -> PageCount:
    """Count one page, without the uses that are `cancelled`."""
    window = asked.rules.event_time_window
    uses = _uses(events, asked)
    if cancelled:
        uses = {customer: [use for use in of if use[1] not in cancelled] for customer, of in uses.items()}
    if window is None:
        return PageCount({customer: _added_up(_asked_for(of, asked)) for customer, of in uses.items()}, {})
    return PageCount({}, {customer: _not_taken(customer, of, window, set()) for customer, of in uses.items()})


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

        def counted_apart(span: Span, call: Call) -> bytes:
            page = ledger.page_at_once(span[0], PAGE_SIZE)
            return call(count_apart, page, span, asked, cancelled_in(span))

        spans = [(after, min(after + PAGE_SIZE, head)) for after in reversed(range(0, head, PAGE_SIZE))]
        for place, span in enumerate(spans):
            following = spans[place + 1 :]
            told = elsewhere.told(span, following, counted_apart)
            if told:
                yield _decode(told)
                continue
            page = pages.read(*span)
            if following and not elsewhere.has_after(following[0][0]):
                pages.fetch(following[0][0])
            yield count(page, asked, cancelled_in(span))
            if page.position < span[1]:
                raise nothing_from(page.position + 1)


def _uses(events: Iterable[StoredEvent], asked: Question) -> Mapping[str, Sequence[Use]]:
    """The uses of the meter, by customer."""
    event_name, read = asked.event_name, asked.rules.reader()
    uses: defaultdict[str, list[Use]] = defaultdict(list)
    for position, event in events:
        if type(event) is ReportedUse and event.event_name == event_name:
            try:
                customer, value, dimensions = read(event.payload)
            except TallybookError as error:
                raise stopped(position, topic_of(event), error) from error
            uses[customer].append((event.occurred_at, position, value, dimensions))
    return uses


def _not_taken(
    customer: str, uses: Sequence[Use], window: EventTimeWindow | None, taken: set[tuple[str, tuple[str, ...], int]]
) -> list[Use]:
    """The newest of each window, where nothing newer was `taken` for it."""
    assert window is not None
    newest: list[Use] = []
    for use in sorted(uses, key=lambda use: use[1], reverse=True):
        place = (customer, use[3], window_start(microseconds(use[0]), window))
        if place not in taken:
            taken.add(place)
            newest.append(use)
    return newest


def _asked_for(uses: Sequence[Use], asked: Question) -> Sequence[Use]:
    """Those that happened in the range, in order."""
    start, end, ordered = asked.start, asked.end, sorted(uses)
    if ordered and not start <= ordered[0][0] <= ordered[-1][0] < end:
        return [use for use in ordered if start <= use[0] < end]
    return ordered


def _added_up(uses: Sequence[Use]) -> Totals:
    """What uses in order add up to."""
    if not uses:
        return Totals()
    last_at, last_position, last, _ = uses[-1]
    values = [use[2] for use in uses if use[2] is not None]
    return Totals(reduce(EXACT.add, values, ZERO), len(uses), last, microseconds(last_at), last_position)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(PageCount).decode
