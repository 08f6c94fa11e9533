"""Totals from the ledger alone, as an independent check: it shares the rules with the fold, but not the read models.

The ledger is read from the newest page to the oldest. So a cancellation is known before its meter event, and the event
that counts in a window is known before the events that it superseded. Pages are counted independently of each other,
in worker processes if there are many.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from functools import reduce
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

import msgspec

from ..domain.counting import window_start
from ..domain.decimals import EXACT_CONTEXT, ZERO
from ..domain.errors import TallybookError
from ..domain.event_time_window import EventTimeWindow
from ..domain.meter_event import MeterEventData
from ..domain.rules import DimensionValues, Rules
from ..domain.timestamps import to_microseconds
from ..domain.totals import Totals, extremes, unique_key
from .models import PAGE_SIZE, LedgerEvent, RawPage
from .page_reader import LedgerPage, PageReader, RowAccessUnavailable, ledger_gap_error, no_row_access
from .parallel_pages import Call, PageSpan, ParallelPages
from .ports import BulkLedgerReader, WorkerPoolProvider
from .stored_events import PositionedEvent, cancellations_of, projection_stopped, topic_for

_UsageRow = tuple[str, datetime, int, Decimal | None, DimensionValues, str | None]
"""Customer, time, position, value, dimension values and unique value of a meter event."""
_WindowKey = tuple[str, DimensionValues, int]
"""Customer, dimension values and start of a window, in which one meter event counts."""


class ReplayQuery(NamedTuple):
    """The totals of events named `event_name` under `rules`, of the event time windows that start in [start, end)."""

    event_name: str
    rules: Rules
    start: datetime
    end: datetime

    def range_predicate(self) -> Callable[[datetime], bool]:
        """Return a function that returns whether an event that occurred at a time is in the range."""
        start, end, window = self.start, self.end, self.rules.event_time_window
        if window is None:
            return lambda at: start <= at < end
        first, last = to_microseconds(start), to_microseconds(end)
        return lambda at: first <= window_start(to_microseconds(at), window) < last


class PageTotals(NamedTuple):
    """The result of one page: `totals` by customer or, with a window, the `newest` meter event of each window."""

    totals: dict[str, Totals]
    newest: list[_UsageRow]


class _RunningTotals:
    """The values of one customer's meter events so far, and the latest event."""

    __slots__ = ("latest", "unique_values", "values")

    def __init__(self, first: _UsageRow) -> None:
        self.values: list[Decimal | None] = []
        self.unique_values: set[str] = set()
        self.latest = first

    def totals(self) -> Totals:
        """Return the totals of the values."""
        _, at, position, last, *_ = self.latest
        values = [value for value in self.values if value is not None]
        smallest, largest = extremes(values)
        total, last_at = reduce(EXACT_CONTEXT.add, values, ZERO), to_microseconds(at)
        unique_values = frozenset(self.unique_values)
        return Totals(total, len(self.values), last, last_at, position, smallest, largest, unique_values)


def replay_totals(
    ledger: BulkLedgerReader,
    query: ReplayQuery,
    *,
    page_size: int = PAGE_SIZE,
    workers: WorkerPoolProvider | None = None,
) -> dict[str, Totals]:
    """Return the totals of each customer with counted usage.

    Raises ProjectionStopped at a meter event that can't be read.
    """
    window = query.rules.event_time_window
    totals: defaultdict[str, Totals] = defaultdict(Totals)
    covered_windows: set[_WindowKey] = set()
    for counted_page in _pages_newest_first(ledger, query, page_size, workers):
        window_totals = (
            {}
            if window is None
            else _sum_by_customer(reversed(_newest_per_window(counted_page.newest, window, covered_windows)))
        )
        for customer, page_totals in chain(counted_page.totals.items(), window_totals.items()):
            totals[customer] = totals[customer].merge(page_totals)
    return totals


def count_page(events: Iterable[PositionedEvent], query: ReplayQuery, cancelled: Collection[int]) -> PageTotals:
    """Count one page without the events at the positions `cancelled`."""
    window = query.rules.event_time_window
    usage_rows = _usage_of(events, query, cancelled)
    if window is None:
        return PageTotals(_sum_by_customer(usage_rows), [])
    return PageTotals({}, _newest_per_window(usage_rows, window, set()))


def count_page_in_worker(page: RawPage, span: PageSpan, query: ReplayQuery, cancelled: Collection[int]) -> bytes:
    """Return the encoded result of `count_page`; b"" if the main process must count the page from its rows."""
    ledger_page = LedgerPage(no_row_access, page, *span, span[1] - span[0])
    try:
        page_totals = count_page(ledger_page, query, cancelled)
    except (TallybookError, RowAccessUnavailable):
        return b""
    return _encode(page_totals) if ledger_page.position == span[1] else b""


class _CancelledPositions:
    """The positions of cancelled meter events, by their page, from the cancellations found so far. Thread-safe.

    The newest cancellation or revocation of a meter event decides.
    """

    def __init__(self, page_size: int) -> None:
        self._page_size = page_size
        self._newest_by_page: defaultdict[int, dict[int, tuple[int, bool]]] = defaultdict(dict)
        self._lock = threading.Lock()

    def add_from(self, other_events: Iterable[LedgerEvent]) -> None:
        """Add the cancellations and revocations among `other_events`. Raises ProjectionStopped."""
        cancellations = list(cancellations_of(other_events))
        with self._lock:
            for recorded_position, position, cancels in cancellations:
                newest = self._newest_by_page[(recorded_position - 1) // self._page_size]
                newest[recorded_position] = max(newest.get(recorded_position, (0, False)), (position, cancels))

    def in_page(self, span: PageSpan) -> frozenset[int]:
        """Return the cancelled positions in one page."""
        with self._lock:
            newest = self._newest_by_page[span[0] // self._page_size]
            return frozenset(position for position, (_, cancels) in newest.items() if cancels)


class _WorkerResult(NamedTuple):
    """The result of a page, and the cancelled positions that it doesn't include."""

    encoded_totals: bytes
    cancelled: frozenset[int]


def _pages_newest_first(
    ledger: BulkLedgerReader, query: ReplayQuery, page_size: int, workers: WorkerPoolProvider | None
) -> Iterator[PageTotals]:
    """Yield the result of each page, the newest page first."""
    head, cancelled = ledger.head(), _CancelledPositions(page_size)

    def count_in_worker(span: PageSpan, page: RawPage, call: Call) -> _WorkerResult:
        cancelled.add_from(page.other_events)
        cancelled_in_page = cancelled.in_page(span)
        return _WorkerResult(call(count_page_in_worker, page, span, query, cancelled_in_page), cancelled_in_page)

    spans = [(after, min(after + page_size, head)) for after in reversed(range(0, head, page_size))]
    parallel_pages: ParallelPages[_WorkerResult] = ParallelPages(ledger, head, workers)
    with PageReader(ledger, page_size, page_size) as reader, parallel_pages:
        for index, span in enumerate(spans):
            upcoming = spans[index + 1 :]
            worker_result = parallel_pages.result(span, upcoming, count_in_worker)
            # All newer pages are read by now, but some may have been unread when a worker counted this page.
            if worker_result and worker_result.encoded_totals and worker_result.cancelled == cancelled.in_page(span):
                yield _decode(worker_result.encoded_totals)
                continue
            page = reader.read(*span)
            if upcoming and not parallel_pages.is_enabled:
                reader.prefetch(upcoming[0][0])
            cancelled.add_from(page.other_events)
            yield count_page(page, query, cancelled.in_page(span))
            if page.position < span[1]:
                raise ledger_gap_error(page.position + 1)


def _usage_of(events: Iterable[PositionedEvent], query: ReplayQuery, cancelled: Collection[int]) -> Iterator[_UsageRow]:
    """Yield the events of the query that are neither cancelled nor filtered.

    Other rules may apply to events outside of its range, so these aren't parsed.
    """
    event_name, parse, is_in_range = query.event_name, query.rules.parser(), query.range_predicate()
    for position, event in events:
        if type(event) is MeterEventData and event.event_name == event_name and is_in_range(event.occurred_at):
            try:
                customer, value, dimensions, unique_text, is_filtered = parse(event.payload)
            except TallybookError as error:
                raise projection_stopped(position, topic_for(event), error) from error
            if position not in cancelled and not is_filtered:
                yield customer, event.occurred_at, position, value, dimensions, unique_text


def _newest_per_window(
    usage_rows: Iterable[_UsageRow], window: EventTimeWindow, covered_windows: set[_WindowKey]
) -> list[_UsageRow]:
    """Return the newest event of each window that isn't in `covered_windows`, newest first; add these windows to it."""
    newest: list[_UsageRow] = []
    for row in sorted(usage_rows, key=_POSITION, reverse=True):
        customer, at, _, _, dimensions, _ = row
        window_key = (customer, dimensions, window_start(to_microseconds(at), window))
        if window_key not in covered_windows:
            covered_windows.add(window_key)
            newest.append(row)
    return newest


def _sum_by_customer(usage_rows: Iterable[_UsageRow]) -> dict[str, Totals]:
    """Return the totals by customer of the rows, in ledger order."""
    sums: dict[str, _RunningTotals] = {}
    for row in usage_rows:
        customer, at, _, value, _, unique_text = row
        running = sums.get(customer)
        if running is None:
            running = sums[customer] = _RunningTotals(row)
        running.values.append(value)
        if unique_text is not None:
            running.unique_values.add(unique_key(unique_text))
        if at >= running.latest[1]:
            running.latest = row
    return {customer: running.totals() for customer, running in sums.items()}


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(PageTotals).decode
_POSITION = itemgetter(2)
