"""Folding page after page: in this process, or where there is very much to fold, ahead of it in others."""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from types import TracebackType

from ..domain.rules import Rules
from .apart import FoldedPage, fold_apart, take
from .elsewhere import Call, PagesElsewhere, Span
from .fold import fold
from .gains import gained
from .pages_ahead import PagesAhead
from .rows import PAGE_PART, LedgerPages, ProjectedMeter, StoredPage

Meters = Mapping[str, ProjectedMeter]


class PageFolder:
    """Folds pages of up to `size` events, which end earlier after `most_cancels`; of about so many `events` in all."""

    def __init__(self, ledger: LedgerPages, size: int, most_cancels: int, events: int) -> None:
        self._size = size
        self._most_cancels = most_cancels
        self._closing = ExitStack()
        self._pages = PagesAhead(ledger, size, most_cancels)
        self._elsewhere: PagesElsewhere[bytes] = PagesElsewhere(ledger, events)
        self._rules: Mapping[str, Rules] = {}

    def __enter__(self) -> "PageFolder":
        self._closing.enter_context(self._pages)
        self._closing.enter_context(self._elsewhere)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def page(
        self, after: int, until: int, meters: Meters, customers: Mapping[str, int], pinned: Mapping[str, Rules]
    ) -> FoldedPage:
        """The page after a position, up to the position `until`. Raises ProjectionStopped.

        It is short where there is no meter yet: only by meters that are known can pages be folded ahead.
        """
        if not meters:
            return self._folded_here(after, min(after + PAGE_PART, until), meters, customers, pinned)
        rules = {name: meter.rules for name, meter in meters.items()}
        if rules != self._rules:
            self._elsewhere.let_go()
            self._rules = rules
        following = [(start, min(start + self._size, until)) for start in range(after + self._size, until, self._size)]
        span = (after, min(after + self._size, until))
        told = self._elsewhere.told(span, following, partial(self._folded_apart, meters))
        return take(told, meters, customers) if told else self._folded_here(after, until, meters, customers, pinned)

    def _folded_here(
        self, after: int, until: int, meters: Meters, customers: Mapping[str, int], pinned: Mapping[str, Rules]
    ) -> FoldedPage:
        events = self._pages.read(after, until)
        if after < events.end < until and not self._elsewhere.are_there:
            self._pages.fetch(events.end)
        gains = [gained(page) for page in fold(events, meters, customers, pinned)]
        return FoldedPage(events.position, gains)

    def _folded_apart(self, meters: Meters, span: Span, page: StoredPage, call: Call) -> bytes:
        known = {name: meter._replace(history=()) for name, meter in meters.items()}  # as much as it takes for uses
        return call(fold_apart, page, *span, self._most_cancels, known)
