"""Reading the ledger page by page: while one is folded, the next is fetched."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType

from .rows import LedgerPages, StoredPage
from .stored_events import StoredEvent, read_page, read_rows

_ROWS = 1_000
"""How many events are read row by row where a page can't be read at once: one of them may be enormous."""


class PagesAhead:
    """Pages of up to `size` events. The next one is fetched on a thread, which ends with this."""

    def __init__(self, ledger: LedgerPages, size: int) -> None:
        self._ledger = ledger
        self._size = size
        self._closing = ExitStack()
        self._thread: ThreadPoolExecutor | None = None
        self._fetched: tuple[int, Future[StoredPage]] | None = None

    def __enter__(self) -> "PagesAhead":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def fetch(self, after: int) -> None:
        """Begin to fetch the page after a position, which will be read next."""
        if self._thread is None:
            self._thread = self._closing.enter_context(ThreadPoolExecutor(1))
        self._fetched = after, self._thread.submit(self._ledger.page_at_once, after, self._size)

    def read(self, after: int, until: int | None = None) -> Sequence[StoredEvent]:
        """The page after a position, up to the position `until`. Raises ProjectionStopped at what can't be read."""
        events = read_page(self._page(after))
        if events is None:
            rows = self._ledger.page(after, min(self._size, _ROWS))
            return list(read_rows(row for row in rows if until is None or row[0] <= until))
        return events if until is None else [event for event in events if event.position <= until]

    def _page(self, after: int) -> StoredPage:
        fetched, self._fetched = self._fetched, None
        if fetched is not None and fetched[0] == after:
            return fetched[1].result()
        return self._ledger.page_at_once(after, self._size)
