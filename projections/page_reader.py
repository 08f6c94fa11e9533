"""Reads the ledger page by page, and prefetches the next page."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import chain, groupby
from operator import itemgetter
from types import TracebackType
from typing import NoReturn

from ..domain.errors import LedgerUnavailable
from .models import CHUNK_SIZE, NON_USAGE_MARKER, LedgerEvent, RawPage
from .ports import CANCELLATION_TOPICS, USAGE_RECORDED, BulkLedgerReader
from .stored_events import DecodedEvent, EventChunk, PositionedEvent, decode_chunk, decode_rows

_POSITION = itemgetter(0)


class PageReader:
    """Reads pages of up to `size` events and `max_cancellations`; a thread prefetches the next page."""

    def __init__(self, ledger: BulkLedgerReader, size: int, max_cancellations: int) -> None:
        self._ledger = ledger
        self._size = size
        self._max_cancellations = max_cancellations
        self._exit_stack = ExitStack()
        self._executor: ThreadPoolExecutor | None = None
        self._prefetched: tuple[int, Future[RawPage]] | None = None

    def __enter__(self) -> "PageReader":
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exit_stack.close()

    def read(self, after: int, until: int, page: RawPage | None = None) -> "LedgerPage":
        """Return the page after the position `after`, up to the position `until`. `page` has it if it was read."""
        until = min(after + self._size, until)
        raw_page = self._read_page(after, until) if page is None else page
        return LedgerPage(self._ledger.read_page, raw_page, after, until, self._max_cancellations)

    def prefetch(self, after: int) -> None:
        """Start fetching the page after the position `after`, if the ledger supports concurrent reads."""
        if not self._ledger.supports_concurrent_reads:
            return
        if self._executor is None:
            self._executor = self._exit_stack.enter_context(ThreadPoolExecutor(1))
        # No thread can be started if they are limited or the main thread has ended. `read` then reads the page itself.
        with suppress(RuntimeError):
            self._prefetched = after, self._executor.submit(self._ledger.read_page_bulk, after, self._size)

    def _read_page(self, after: int, until: int) -> RawPage:
        prefetched, self._prefetched = self._prefetched, None
        if prefetched is not None and prefetched[0] == after:
            return prefetched[1].result()
        return self._ledger.read_page_bulk(after, until - after)


class LedgerPage:
    """The decoded events of a page, to iterate once, also in chunks.

    `position` is that of the last event so far, `end` that of the last event of the page. `other_events` are the stored
    events that record no usage, `last_event` the last one of the page if it was read. `read_rows` reads rows of the
    ledger if a chunk can't be decoded at once.
    """

    def __init__(
        self,
        read_rows: Callable[[int, int], Sequence[LedgerEvent]],
        page: RawPage,
        after: int,
        until: int,
        max_cancellations: int,
    ) -> None:
        cancellation_positions = [position for position, topic, _ in page.other_events if topic in CANCELLATION_TOPICS]
        self._until = (
            min(cancellation_positions[max_cancellations] - 1, until)
            if len(cancellation_positions) > max_cancellations
            else until
        )
        self.position = after
        self.end = min(page.last_position, self._until)
        self.other_events = page.other_events
        self.last_event = page.last_event
        self._row_reader = read_rows
        self._page = page

    def __iter__(self) -> Iterator[PositionedEvent]:
        return chain.from_iterable(zip(positions, events, strict=True) for positions, events in self.chunks())

    def chunks(self) -> Iterator[EventChunk]:
        """Yield the events in chunks, instead of one by one. Raises ProjectionStopped."""
        for usage_json in self._json_chunks():
            if self.position >= self._until:
                return
            events, after = self._decode_chunk(usage_json), self.position
            if events is None:
                rows = self._read_rows()
                if not rows:
                    return
                self.position = rows[-1][0]
                yield EventChunk.of(rows)
            else:
                events = events[: self._until - after]
                self.position += len(events)
                yield EventChunk(range(after + 1, self.position + 1), events)

    def _json_chunks(self) -> Iterator[bytes]:
        """Yield the JSON of each chunk; b"" for each if a stored state contains newlines, so that rows are read."""
        usage_json, start = memoryview(self._page.usage_json), 0
        chunk_count = (self._page.last_position - 1) // CHUNK_SIZE - self.position // CHUNK_SIZE + 1
        if usage_json and self._page.usage_json.count(b"\n") + 1 == chunk_count:
            for _ in range(chunk_count):  # one by one, because splitting would copy the whole page
                end = self._page.usage_json.find(b"\n", start)
                yield b"[%b]" % usage_json[start : end if end >= 0 else None]
                start = end + 1
            return
        while self.position < self._until:
            yield b""

    def _decode_chunk(self, usage_json: bytes) -> Sequence[DecodedEvent] | None:
        end = min(self._chunk_end(), self._page.last_position)
        first, last = (bisect_right(self.other_events, position, key=_POSITION) for position in (self.position, end))
        return decode_chunk(usage_json, self.other_events[first:last], self.position, end)

    def _read_rows(self) -> Sequence[PositionedEvent]:
        """Return the events of a chunk, decoded row by row. Raises ProjectionStopped."""
        end = min(self._chunk_end(), self._until)
        return list(decode_rows(row for row in self._row_reader(self.position, CHUNK_SIZE) if row[0] <= end))

    def _chunk_end(self) -> int:
        """Return the position at which the present chunk ends, unless the page ends before."""
        return self.position - self.position % CHUNK_SIZE + CHUNK_SIZE


def page_of_events(events: Sequence[LedgerEvent], after: int) -> RawPage:
    """Return the page of a few events after a position, which were read as rows."""
    chunks = [
        b",".join(state if topic == USAGE_RECORDED else NON_USAGE_MARKER for _, topic, state in chunk)
        for _, chunk in groupby(events, lambda event: (event[0] - 1) // CHUNK_SIZE)
    ]
    other_events = [event for event in events if event[1] != USAGE_RECORDED]
    last_event = events[-1] if events else None
    return RawPage(b"\n".join(chunks), other_events, last_event[0] if last_event else after, last_event)


class RowAccessUnavailable(Exception):
    """A page must be read row by row, but this process has no access to the ledger."""


def no_row_access(after: int, limit: int) -> NoReturn:
    """Raise RowAccessUnavailable: the row reader of worker processes, which have no access to the ledger."""
    raise RowAccessUnavailable(f"{limit} rows after {after}")


def ledger_gap_error(position: int) -> LedgerUnavailable:
    """Return the error for a ledger that ends before its head position."""
    return LedgerUnavailable(f"The ledger is corrupted: it has no events from position {position} on.")
