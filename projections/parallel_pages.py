"""A parallel map over pages of the ledger: worker processes compute results ahead of the consumer."""

from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Generic, NamedTuple, TypeVar

from .models import RawPage
from .ports import BulkLedgerReader, WorkerLost, WorkerPoolProvider

Result = TypeVar("Result")
PageSpan = tuple[int, int]
"""The position before the first event of a page, and the position of its last event."""
Call = Callable[..., bytes]
"""Calls a function with arguments, in this process or in a worker process. Raises WorkerLost."""
PageJob = Callable[[PageSpan, RawPage, Call], Result]
"""Computes the result of a page; the expensive part runs through `Call`."""

_FETCH_THREADS = 2
_EXTRA_PENDING = 4
"""The number of unfinished pages that may be submitted in addition to one for each worker."""
_LOOKAHEAD_PER_WORKER = 3
"""The number of upcoming pages, for each process, that may be submitted ahead of the consumer."""


class ParallelPages(Generic[Result]):
    """Computes results of pages in worker processes, and in this process while it waits for them.

    It is disabled without `workers`, if `events` are too few to start workers, if the ledger doesn't support concurrent
    reads, and after a worker was lost.
    """

    def __init__(self, ledger: BulkLedgerReader, events: int, workers: WorkerPoolProvider | None) -> None:
        self._ledger = ledger
        self._exit_stack = ExitStack()
        self._workers = workers
        self._worker_count = workers.size_for(events) if workers and ledger.supports_concurrent_reads else 0
        self._pending: dict[PageSpan, _PendingPage[Result]] = {}

    def __enter__(self) -> "ParallelPages[Result]":
        if self._workers and self._worker_count:
            self._fetch_executor = self._exit_stack.enter_context(ThreadPoolExecutor(_FETCH_THREADS))
            self._worker_pool = self._exit_stack.enter_context(self._workers.pool(self._worker_count))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cancel()
        self._exit_stack.close()

    @property
    def is_enabled(self) -> bool:
        """Whether `result` returns results."""
        return self._worker_count > 0

    def result(self, span: PageSpan, upcoming: Sequence[PageSpan], job: PageJob[Result]) -> Result | None:
        """Return the result of `job` for a page, or None if this is disabled.

        Submits upcoming pages, and cancels submitted pages that are not among them.
        """
        if not self._worker_count:
            return None
        spans = (span, *upcoming[: _LOOKAHEAD_PER_WORKER * (self._worker_count + 1)])
        for stale_span in self._pending.keys() - set(spans):
            self._pending.pop(stale_span).cancel()
        try:
            self._schedule(spans, job)
            pending_page = self._pending[span]
            while not pending_page.result_future.done() and self._run_one_locally(job):
                self._schedule(spans, job)
            return self._pending.pop(span).result_future.result()
        except (CancelledError, WorkerLost) as error:
            self._worker_pool.mark_lost(WorkerLost(str(error)))
            self.cancel()
            self._worker_count = 0
            return None

    def cancel(self) -> None:
        """Cancel all submitted pages and discard their results."""
        for pending_page in self._pending.values():
            pending_page.cancel()
        self._pending.clear()

    def _schedule(self, spans: Sequence[PageSpan], job: PageJob[Result]) -> None:
        """Submit pages in order, until all workers are busy."""
        pending_count = sum(not pending_page.result_future.done() for pending_page in self._pending.values())
        for span in spans:
            if span not in self._pending and (span == spans[0] or pending_count <= self._worker_count + _EXTRA_PENDING):
                self._pending[span] = self._submit(span, job)
                pending_count += 1

    def _submit(self, span: PageSpan, job: PageJob[Result]) -> "_PendingPage[Result]":
        try:
            page_future = self._fetch_executor.submit(self._ledger.read_page_bulk, span[0], span[1] - span[0])
        except RuntimeError as error:  # no thread can be started, for example after the main thread has ended
            raise WorkerLost(str(error)) from error
        return _PendingPage(
            page_future, self._worker_pool.submit(partial(_run_job, job, span, page_future, self._worker_pool.call))
        )

    def _run_one_locally(self, job: PageJob[Result]) -> bool:
        """Run the first page that no worker has started in this process; return whether there was one."""
        for span, pending_page in list(self._pending.items()):
            if pending_page.result_future.cancel():
                result_future: Future[Result] = Future()
                self._pending[span] = _PendingPage(pending_page.page_future, result_future)
                try:
                    result_future.set_result(job(span, pending_page.page_future.result(), call_locally))
                except Exception as error:  # raised when the caller requests this page
                    result_future.set_exception(error)
                return True
        return False


class _PendingPage(NamedTuple, Generic[Result]):
    """The futures of a fetched page and of its result."""

    page_future: Future[RawPage]
    result_future: Future[Result]

    def cancel(self) -> None:
        """Cancel both futures."""
        self.page_future.cancel()
        self.result_future.cancel()


def _run_job(job: PageJob[Result], span: PageSpan, page_future: Future[RawPage], call: Call) -> Result:
    return job(span, page_future.result(), call)


def call_locally(function: Callable[..., bytes], *arguments: object) -> bytes:
    """Call a function in this process."""
    return function(*arguments)
