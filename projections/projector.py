"""The projector: folds the ledger into the read models, page by page, each exactly once."""

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..domain.errors import LedgerUnavailable, ProjectionStopped
from .customers import KnownCustomers
from .page_folder import PageFolder
from .pages_ahead import nothing_from
from .rows import DisposableViews, LedgerPages, Rows, Views, WritableRows
from .tally import tally

PAGE_SIZE = 30_000
MOST_CANCELS = 5_000
"""A cancel takes a store far longer than a new usage: a page with more of them is cut, so that nobody waits long."""

_log = logging.getLogger("tallybook")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the read models have come: folded in up to `position`, the ledger being at `head`."""

    position: int
    head: int
    events_per_second: float

    @property
    def seconds_left(self) -> float:
        """About how long it will take to reach the head."""
        return max(self.head - self.position, 0) / self.events_per_second if self.events_per_second else float("inf")


class Projector:
    """Brings read models up to date with the ledger.

    A page is committed together with the position that it reaches, and only onto the position that it was read
    after: killed at any moment, a page is in wholly or not at all, and none is folded in twice.
    """

    def __init__(self, ledger: LedgerPages, views: Views, page_size: int = PAGE_SIZE) -> None:
        self.ledger = ledger
        self.views = views
        self.page_size = page_size

    def head(self) -> int:
        """The position that there is to reach now."""
        return self.ledger.head()

    def catch_up(self, progress: Callable[[Progress], None] | None = None, *, until: int | None = None) -> int:
        """Fold in all that was stored before this call, or all up to the position `until`; give the position reached.

        Raises ProjectionStopped at an event that can't be folded, with all before it folded in.
        """
        head = self.head() if until is None else until
        with self.views.reading() as rows:
            position, mark = rows.position(), rows.ledger_mark()
        if position > head and until is None and position > self.ledger.head():
            raise LedgerUnavailable(
                f"The read models are folded up to position {position}, past the ledger's end. They are of another "
                "ledger, or damaged; they are made anew when the ledger is opened again."
            )
        if position < head and mark_at(self.ledger, position) != mark:  # or else events would be folded in twice
            raise LedgerUnavailable(
                f"The read models say that they are folded up to position {position}, and were folded up to another. "
                "They are damaged; they are made anew when the ledger is opened again."
            )
        began, began_at, known = time.monotonic(), position, KnownCustomers()
        with PageFolder(self.ledger, self.page_size, MOST_CANCELS, head - position) as folder:
            while position < head:
                position = self._project_page(folder, known, head, until)
                if progress is not None:
                    seconds = max(time.monotonic() - began, 1e-9)
                    progress(Progress(position, head, (position - began_at) / seconds))
        return position

    def _project_page(self, folder: PageFolder, known: KnownCustomers, head: int, until: int | None) -> int:
        stopped: ProjectionStopped | None = None
        while True:
            try:
                reached = self.views.take_page(
                    partial(self._fold, folder, known, head, until if stopped is None else stopped.position - 1)
                )
            except ProjectionStopped as earlier:  # what is wrong with one event may show only without a later one
                stopped = earlier
                continue
            if stopped is not None:
                raise stopped
            return reached

    def _fold(
        self, folder: PageFolder, known: KnownCustomers, head: int, until: int | None, rows: Rows
    ) -> Callable[[WritableRows], None] | None:
        """Fold the page after what `rows` hold; give what writes it."""
        position, customers = rows.position(), known.numbers(rows)
        if position >= head:
            return None  # another was faster
        until = head if until is None else until
        reached, gains = folder.page(position, until, rows.meters(), customers, rows.pinned())
        mark = None if reached == position else mark_at(self.ledger, reached)
        if mark is None:
            if position < min(head, until):
                raise nothing_from(position + 1)
            return None

        def write(onto: WritableRows) -> None:
            onto.add_customers(customers.new)
            for gain in gains:
                if gain.has_news:
                    onto.put_meter(gain.meter)
                tally(onto, gain)
            onto.advance(reached, mark)

        return write


def discard_foreign_views(ledger: LedgerPages, views: DisposableViews) -> None:
    """Begin the read models anew where any were made from another ledger, as after one was put back or moved."""
    if all(mark_at(ledger, position) == mark for position, mark in views.marks()):
        return
    _log.warning("The read models were made from another ledger than this; they are made anew.")
    views.begin_anew()


def mark_at(ledger: LedgerPages, position: int) -> str | None:
    """What tells the event at a position from that of another ledger; None where there is none."""
    for event in ledger.page(position - 1, 1):
        if event[0] == position:
            return hashlib.sha256(repr(event).encode(errors="backslashreplace")).hexdigest()
    return None
