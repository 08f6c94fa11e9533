"""What is read to answer is let go of again, however much there is."""

import tracemalloc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from tallybook.domain import Rules
from tallybook.domain.counting import Usage
from tallybook.projections.buckets import DAY_SECONDS, bucket_end
from tallybook.projections.rows import AsOf, Bucket
from tallybook.projections.runs import Run
from tallybook.projections.totals import Totals
from tallybook.projections.usage_view import UsageView

DAYS = 20_000
DAY = bucket_end(0, DAY_SECONDS)
MOST_BYTES = 500_000


def use(day: int) -> Usage:
    """A use of 1 at the beginning of a day."""
    return Usage(1, day * DAY, day + 1, "", Decimal(1), 0)


class OneUseADay:
    """Many days of one customer, none of them held."""

    rules = Rules()
    has_runs = True

    def __init__(self, bucket_sizes: Sequence[int]) -> None:
        self.bucket_sizes = bucket_sizes

    def customer_number(self, customer: str) -> int | None:
        """Not asked for."""
        raise NotImplementedError

    def customer_names(self, numbers: Iterable[int]) -> Mapping[int, str]:
        """Not asked for."""
        raise NotImplementedError

    def extent(self, customer: int | None) -> tuple[int, int]:
        """All days."""
        return 0, DAYS * DAY

    def buckets(self, bucket_seconds: int, customer: int | None, start: int, end: int) -> Iterator[Bucket]:
        """A bucket a day."""
        return (Bucket(1, day * DAY, "", Totals.of([use(day)])) for day in range(start // DAY, end // DAY))

    def runs(self, customer: int | None, start: int, end: int) -> Iterator[Run]:
        """A run a day, of which nothing tells that it ends before the range does."""
        runs = (Run.of((1, day * DAY, ""), [use(day)]) for day in range(start // DAY, end // DAY))
        return (run._replace(latest=end) for run in runs)

    def usages_of(self, runs: Sequence[Run]) -> Iterator[list[Usage]]:
        """The use of each of `runs`."""
        return ([use(run.first_position - 1)] for run in runs)

    def usages(self, customer: int | None, start: int, end: int, as_of: AsOf | None) -> Iterator[Usage]:
        """Not asked for."""
        raise NotImplementedError


def most_bytes_held(bucket_sizes: Sequence[int]) -> int:
    """How many bytes are held at most to find that there was one use a day."""
    view = UsageView(OneUseADay(bucket_sizes))
    tracemalloc.start()
    try:
        totals = view.totals(1, (0, DAYS * DAY))
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [of.count for of in totals.values()] == [DAYS]
    return most


def test_buckets_are_added_up_as_they_are_read() -> None:
    """A total over very many buckets holds few of them at a time."""
    assert most_bytes_held((DAY_SECONDS,)) < MOST_BYTES


def test_runs_are_opened_as_they_are_read() -> None:
    """Runs that reach over an edge are opened some at a time."""
    assert most_bytes_held(()) < MOST_BYTES
