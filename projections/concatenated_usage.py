"""The usage of several parts of a meter's rules over time, as one source without stored parts."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter

from ..domain.counting import UsageRecord
from ..domain.rules import Rules
from .models import AsOf
from .usage_source import CustomerRecords, UsageSource


class ConcatenatedUsage:
    """The usage of sources that count by the same rules, each of which has the usage of a later time.

    It is for rules with windows that extend over the times of several sources.
    """

    parts = None

    def __init__(self, rules: Rules, sources: Sequence[UsageSource]) -> None:
        self.rules = rules
        self._sources = sources

    def customer_id(self, customer: str) -> int | None:
        """Return the id of a customer, which is the same in all sources, or None if it has no usage."""
        return next((known for source in self._sources if (known := source.customer_id(customer)) is not None), None)

    def time_span(self, customer_id: int | None) -> tuple[int, int] | None:
        """Return a range [start, end) that contains all usage of a customer, or of all customers if None."""
        return joined_span(source.time_span(customer_id) for source in self._sources)

    def usage_between(self, customer_id: int | None, start: int, end: int, as_of: AsOf | None) -> Iterator[UsageRecord]:
        """Yield the records in [start, end), ordered by (occurred_at, position), as known as of `as_of`."""
        for source in self._sources:
            yield from source.usage_between(customer_id, start, end, as_of)

    def usage_by_customer(self, start: int, end: int, as_of: AsOf | None) -> Iterator[CustomerRecords]:
        """Yield each customer that has records in [start, end), by id, with these in order of time."""
        of_sources = heapq.merge(
            *(source.usage_by_customer(start, end, as_of) for source in self._sources), key=itemgetter(0)
        )
        for customer_id, parts in groupby(of_sources, itemgetter(0)):
            yield customer_id, [record for _, records in parts for record in records]

    def last_changes(self, start: int, end: int, after: int) -> Mapping[int, int] | None:
        """Return, by customer id, the position of the last change after `after` of the usage in [start, end)."""
        last: dict[int, int] = {}
        for source in self._sources:
            changes = source.last_changes(start, end, after)
            if changes is None:
                return None
            last |= {customer_id: max(position, last.get(customer_id, 0)) for customer_id, position in changes.items()}
        return last


def joined_span(spans: Iterable[tuple[int, int] | None]) -> tuple[int, int] | None:
    """Return the range from the first start to the last end of ranges; None if there is none."""
    known = [span for span in spans if span is not None]
    return (min(start for start, _ in known), max(end for _, end in known)) if known else None
