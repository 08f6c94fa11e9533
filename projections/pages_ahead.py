"""Reading the ledger page by page: while one is folded, the next is fetched."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import chain
from types import TracebackType
from typing import NoReturn

from ..domain.errors import LedgerUnavailable
from .rows import EVENT_CANCELLED, PAGE_PART, LedgerEvent, LedgerPages, StoredPage
from .stored_events import Event, StoredEvent, read_part, read_rows


class PagesAhead:
    """Pages of up to `size` events, which end earlier after `most_cancels`.

    The next one is fetched on a thread, which ends with this.
    """

    def __init__(self, ledger: LedgerPages, size: int, most_cancels: int) -> None:
        self._ledger = ledger
        self._size = size
        self._most_cancels = most_cancels
        self._closing = ExitStack()
        self._thread: ThreadPoolExecutor | None = None
        self._fetched: tuple[int, Future[StoredPage]] | None = None

    def __enter__(self) -> "PagesAhead":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def read(self, after: int, until: int) -> "PageRead":
        """The page after a position, up to the position `until`."""
        until = min(after + self._size, until)
        return PageRead(self._ledger.page, self._page(after, until), after, until, self._most_cancels)

    def fetch(self, after: int) -> None:
        """Begin to fetch the page after a position, which is to be read next, where that disturbs nobody."""
        if not self._ledger.is_read_beside:
            return
        if self._thread is None:
            self._thread = self._closing.enter_context(ThreadPoolExecutor(1))
        # There is no thread to be had where they are limited, or after the program's main thread has ended: the page is
        # then read when it is its turn.
        with suppress(RuntimeError):
            self._fetched = after, self._thread.submit(self._ledger.page_at_once, after, self._size)

    def _page(self, after: int, until: int) -> StoredPage:
        fetched, self._fetched = self._fetched, None
        if fetched is not None and fetched[0] == after:
            return fetched[1].result()
        return self._ledger.page_at_once(after, until - after)


class PageRead:
    """The events of a page, to go through once; `position` is that of the last one so far, `end` of the very last.

    `others` are its stored events that are no uses. `rows` reads the ledger where the page can't be read as it was put
    together.
    """

    def __init__(
        self,
        rows: Callable[[int, int], Sequence[LedgerEvent]],
        page: StoredPage,
        after: int,
        until: int,
        most_cancels: int,
    ) -> None:
        cancels = [position for position, topic, _ in page.others if topic == EVENT_CANCELLED]
        self._until = min(cancels[most_cancels] - 1, until) if len(cancels) > most_cancels else until
        self.position = after
        self.end = min(page.last, self._until)
        self.others = page.others
        self._read_rows = rows
        self._page = page

    def __iter__(self) -> Iterator[StoredEvent]:
        return chain.from_iterable(self._parts())

    def _parts(self) -> Iterator[Iterable[StoredEvent]]:
        for uses in self._documents():
            events, after = self._at_once(uses), self.position
            if events is None:
                rows = self._rows()
                if not rows:
                    return
                self.position = rows[-1][0]
                yield rows
            else:
                events = events[: self._until - after]
                self.position += len(events)
                yield enumerate(events, after + 1)
            if self.position >= self._until:
                return

    def _documents(self) -> Iterator[bytes]:
        """The uses of each part; nothing for each, to be read row by row, where what is stored has lines itself."""
        uses, begins = memoryview(self._page.uses), 0
        many = (self._page.last - 1) // PAGE_PART - self.position // PAGE_PART + 1
        if uses and self._page.uses.count(b"\n") + 1 == many:
            for _ in range(many):  # one by one, as all of them would take as much memory again
                ends = self._page.uses.find(b"\n", begins)
                yield b"[%b]" % uses[begins : ends if ends >= 0 else None]
                begins = ends + 1
            return
        while self.position < self._until:
            yield b""

    def _at_once(self, uses: bytes) -> Sequence[Event] | None:
        end = min(self._part_end(), self._page.last)
        others = [other for other in self.others if self.position < other[0] <= end]
        return read_part(uses, others, self.position, end)

    def _rows(self) -> Sequence[StoredEvent]:
        """The events of a part that can't be read at once. Raises ProjectionStopped at what can't be read at all."""
        end = min(self._part_end(), self._until)
        return list(read_rows(row for row in self._read_rows(self.position, PAGE_PART) if row[0] <= end))

    def _part_end(self) -> int:
        """The position that the part ends at which goes on from here, unless the page ends before."""
        return self.position - self.position % PAGE_PART + PAGE_PART


class NotPutTogether(Exception):
    """Rows of the ledger would have to be read where there is none."""


def no_rows(after: int, limit: int) -> NoReturn:
    """What reads rows where there is no ledger to read. Raises NotPutTogether."""
    raise NotPutTogether(f"{limit} rows after {after}")


def nothing_from(position: int) -> LedgerUnavailable:
    """That the ledger holds less than its head says."""
    return LedgerUnavailable(f"The ledger is damaged: it holds nothing from position {position} on.")
