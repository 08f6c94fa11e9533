"""Folds page after page, in this process or in worker processes.

A worker folds a page without access to the read models: it knows the meters, and numbers the customers of the page
itself. Its result is encoded as MessagePack. The main process decodes it and replaces the numbers with customer ids.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import NamedTuple

import msgspec

from ..domain.errors import TallybookError
from .blocks import BucketKey, UsageBlock
from .deltas import MeterDelta, PartDelta, compute_deltas
from .fold import fold_page
from .high_water_marks import HighWaterMark
from .models import CHUNK_SIZE, Bucket, CancellationMark, FoldedRules, LedgerEvent, PinnedRules, ProjectedMeter, RawPage
from .page_reader import LedgerPage, PageReader, RowAccessUnavailable, no_row_access
from .page_usage import PageUsage
from .parallel_pages import Call, PageSpan, ParallelPages
from .ports import BulkLedgerReader, WorkerPoolProvider
from .stored_events import METER_TOPICS

CustomerIds = Callable[[Sequence[str]], Sequence[int]]
"""Returns the id of each of the customers of a page, in order of appearance."""


class FoldedPage(NamedTuple):
    """The delta of each meter, the position of the last folded event, and the high-water marks of the page's events.

    `latest` is the latest time of recording of these events. `last_event` is the last one of them, if it was read.
    """

    position: int
    deltas: Sequence[MeterDelta]
    marks: Sequence[HighWaterMark]
    latest: int
    last_event: LedgerEvent | None = None


class _WorkerPartDelta(NamedTuple):
    """A PartDelta of the rules with the number `meter_id`, with customers numbered within the page."""

    meter_id: int
    blocks: list[UsageBlock]
    buckets: list[Bucket]
    cancellations: list[CancellationMark]
    unsorted: list[UsageBlock]


class _WorkerMeterDelta(NamedTuple):
    """A MeterDelta of the meter `event_name`."""

    event_name: str
    parts: list[_WorkerPartDelta]


class _WorkerPage(NamedTuple):
    """A FoldedPage; the index of a customer in `customers` is its number within the page."""

    position: int
    customers: list[str]
    meters: list[_WorkerMeterDelta]
    marks: list[HighWaterMark]
    latest: int


class _LocalCustomerIds(dict[str, int]):
    """Numbers the customers of a page from 0, in order of appearance."""

    def __missing__(self, customer: str) -> int:
        customer_id = self[customer] = len(self)
        return customer_id


def fold_page_in_worker(
    page: RawPage, after: int, until: int, max_cancellations: int, meters: Mapping[str, ProjectedMeter]
) -> bytes:
    """Return the folded page for `decode_folded_page`.

    Returns b"" if the main process must fold the page: it contains events of meters, or can't be folded.
    """
    if any(topic in METER_TOPICS for _, topic, _ in page.other_events):
        return b""
    ledger_page, customer_ids = LedgerPage(no_row_access, page, after, until, max_cancellations), _LocalCustomerIds()
    try:
        page_usage = fold_page(ledger_page.chunks(), meters, customer_ids, {})
    except (TallybookError, RowAccessUnavailable):
        return b""
    deltas, marks = compute_deltas(page_usage), page_usage.marks
    worker_deltas = [
        _WorkerMeterDelta(
            delta.meter.event_name,
            [
                _WorkerPartDelta(
                    part.folded.meter_id,
                    list(part.blocks),
                    list(part.buckets),
                    list(part.cancellations),
                    list(part.unsorted),
                )
                for part in delta.parts
            ],
        )
        for delta in deltas
    ]
    return _encode(_WorkerPage(ledger_page.position, list(customer_ids), worker_deltas, marks.marks, marks.latest))


def decode_folded_page(encoded: bytes, meters: Mapping[str, ProjectedMeter], ids_of: CustomerIds) -> FoldedPage:
    """Decode the result of `fold_page_in_worker`, with the meters it was folded for."""
    position, customer_names, worker_deltas, marks, latest = _decode(encoded)
    stored_ids = ids_of(customer_names)
    deltas: list[MeterDelta] = []
    for event_name, worker_parts in worker_deltas:
        meter = meters[event_name]
        folded_by_id = {folded.meter_id: folded for folded in meter.folded}
        parts = [_resolve_customers(part, folded_by_id[part.meter_id], stored_ids) for part in worker_parts]
        deltas.append(MeterDelta(meter, False, parts))
    return FoldedPage(position, deltas, marks, latest)


def _resolve_customers(delta: _WorkerPartDelta, folded: FoldedRules, stored_ids: Sequence[int]) -> PartDelta:
    def resolve_key(key: BucketKey) -> BucketKey:
        return stored_ids[key[0]], key[1], key[2]

    blocks, unsorted = (
        [msgspec.structs.replace(block, key=resolve_key(block.key)) for block in of_kind]
        for of_kind in (delta.blocks, delta.unsorted)
    )
    buckets = [msgspec.structs.replace(bucket, key=resolve_key(bucket.key)) for bucket in delta.buckets]
    cancellations = [cancellation._replace(key=resolve_key(cancellation.key)) for cancellation in delta.cancellations]
    return PartDelta(folded, blocks, buckets, cancellations, unsorted)


def _replace_local_ids(page_usage: PageUsage, stored_ids: Sequence[int]) -> None:
    """Replace the numbers of customers within the page with their ids."""
    for meter_usage in page_usage.changed:
        for part in meter_usage.parts:
            part.replace_customers(stored_ids)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_WorkerPage).decode

MetersByName = Mapping[str, ProjectedMeter]


class PageProjector:
    """Folds pages of up to `size` events and `max_cancellations`. `events` is the approximate total of all pages."""

    def __init__(
        self,
        ledger: BulkLedgerReader,
        size: int,
        max_cancellations: int,
        events: int,
        workers: WorkerPoolProvider | None = None,
    ) -> None:
        self._size = size
        self._max_cancellations = max_cancellations
        self._exit_stack = ExitStack()
        self._reader = PageReader(ledger, size, max_cancellations)
        self._parallel_pages: ParallelPages[bytes] = ParallelPages(ledger, events, workers)
        self._folded: Mapping[str, tuple[FoldedRules, ...]] = {}

    def __enter__(self) -> "PageProjector":
        self._exit_stack.enter_context(self._reader)
        self._exit_stack.enter_context(self._parallel_pages)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exit_stack.close()

    def fold_next(
        self,
        after: int,
        until: int,
        meters: MetersByName,
        ids_of: CustomerIds,
        pinned: PinnedRules,
        page: RawPage | None = None,
    ) -> FoldedPage:
        """Fold the page after the position `after`, up to the position `until`. Raises ProjectionStopped.

        `page` is that page if it was read. The page is short while there are no meters, because pages can be folded
        ahead for known meters only.
        """
        if not meters:
            until = min(after + CHUNK_SIZE, until)
        if not meters or page is not None:
            return self._fold_locally(after, until, meters, ids_of, pinned, page)
        folded = {name: meter.folded for name, meter in meters.items()}
        if folded != self._folded:
            self._parallel_pages.cancel()
            self._folded = folded
        upcoming = [(start, min(start + self._size, until)) for start in range(after + self._size, until, self._size)]
        span = (after, min(after + self._size, until))
        encoded = self._parallel_pages.result(span, upcoming, partial(self._fold_in_worker, meters))
        return (
            decode_folded_page(encoded, meters, ids_of)
            if encoded
            else self._fold_locally(after, until, meters, ids_of, pinned)
        )

    def _fold_locally(
        self,
        after: int,
        until: int,
        meters: MetersByName,
        ids_of: CustomerIds,
        pinned: PinnedRules,
        page: RawPage | None = None,
    ) -> FoldedPage:
        ledger_page = self._reader.read(after, until, page)
        if after < ledger_page.end < until and not self._parallel_pages.is_enabled:
            self._reader.prefetch(ledger_page.end)
        local_ids = _LocalCustomerIds()
        page_usage = fold_page(ledger_page.chunks(), meters, local_ids, pinned)
        _replace_local_ids(page_usage, ids_of(list(local_ids)))
        deltas, marks = compute_deltas(page_usage), page_usage.marks
        last_event = ledger_page.last_event
        if last_event is not None and last_event[0] != ledger_page.position:
            last_event = None
        return FoldedPage(ledger_page.position, deltas, marks.marks, marks.latest, last_event)

    def _fold_in_worker(self, meters: MetersByName, span: PageSpan, page: RawPage, call: Call) -> bytes:
        # Folding recorded meter events doesn't need the history of the rules.
        known_meters = {name: replace(meter, history=()) for name, meter in meters.items()}
        return call(fold_page_in_worker, page, *span, self._max_cancellations, known_meters)
