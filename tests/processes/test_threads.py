"""Several threads share one Metering."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence

import pytest
from tallybook.application import Metering, Receipt

from .ledgers import positions, projected_and_replayed_totals
from .usage import BATCH_SIZE, VALUE, batch, count_and_sum, open_ledger


def run_together(jobs: Sequence[Callable[[], None]]) -> None:
    """Run each job in its own thread, all from the same moment; raise the first exception."""
    together = threading.Barrier(len(jobs))
    failures: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        together.wait()
        try:
            job()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.mark.parametrize("size", [1, 50, 1_000], ids=["one by one", "in batches", "in one batch"])
def test_four_threads_that_record_the_same_identifiers_record_each_once(url: str, size: int) -> None:
    """1,000 identifiers recorded by four threads give 1,000 events and 3,000 duplicates."""
    receipts: list[Receipt] = []
    with open_ledger(url) as metering:
        events = batch("w", 0, 1_000)

        def record() -> None:
            for first in range(0, 1_000, size):
                receipts.extend(metering.record_many(events[first : first + size]))

        run_together([record] * 4)
        assert count_and_sum(metering) == (1_000, 1_000 * VALUE)
    assert Counter(receipt.outcome for receipt in receipts) == {"accepted": 1_000, "duplicate": 3_000}
    assert len({(receipt.identifier, receipt.position) for receipt in receipts}) == 1_000
    assert len(positions(url)) == 1_001


def test_threads_record_and_read_while_others_catch_up(url_for_threads: str) -> None:
    """Writers, readers and catch-ups don't block each other: counts only grow, and no event is lost."""
    with open_ledger(url_for_threads) as metering:
        readings: list[list[tuple[int, int]]] = [[], []]

        def read(thread_readings: list[tuple[int, int]]) -> None:
            while not thread_readings or thread_readings[-1][0] < 40 * BATCH_SIZE:
                thread_readings.append(count_and_sum(metering))

        run_together(
            [
                lambda: _record(metering, "a"),
                lambda: _record(metering, "b"),
                lambda: read(readings[0]),
                lambda: read(readings[1]),
                lambda: _catch_up(metering),
            ]
        )
        for thread_readings in readings:
            assert thread_readings == sorted(thread_readings)
            assert all(total == VALUE * count for count, total in thread_readings)
        assert count_and_sum(metering) == (40 * BATCH_SIZE, 40 * BATCH_SIZE * VALUE)
    if url_for_threads != "sqlite://":
        assert projected_and_replayed_totals(url_for_threads) == ((40 * BATCH_SIZE, 40 * BATCH_SIZE * VALUE),) * 2


def test_threads_that_cancel_one_event_cancel_it_once(url: str) -> None:
    """The first thread cancels; all threads receive its cancellation."""
    with open_ledger(url) as metering:
        metering.record_many(batch("w", 0))
        results: list[tuple[str | None, object]] = []

        def cancel(by: str) -> None:
            cancellation = metering.cancel("tokens", "w/00000/000", by=by)
            results.append((cancellation.by, cancellation.cancelled_at))

        run_together([lambda by=f"thread {number}": cancel(by) for number in range(6)])
        assert len(set(results)) == 1
        assert count_and_sum(metering) == (BATCH_SIZE - 1, (BATCH_SIZE - 1) * VALUE)
    assert len(positions(url)) == BATCH_SIZE + 2


def _record(metering: Metering, writer: str) -> None:
    for number in range(20):
        metering.record_many(batch(writer, number))


def _catch_up(metering: Metering) -> None:
    for _ in range(50):
        metering.catch_up()
