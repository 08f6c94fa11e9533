"""The usage of a meter without some meter events, as if these had never been recorded."""

from collections.abc import Collection, Iterator

from ..domain.counting import UsageRecord
from .models import AsOf
from .usage_source import UsageSource


class ExcludedUsage:
    """A usage source without the records at some positions. It has no stored parts, because these include them."""

    parts = None

    def __init__(self, source: UsageSource, excluded: Collection[int]) -> None:
        self.rules = source.rules
        self.customer_id = source.customer_id
        self.time_span = source.time_span
        self._source = source
        self._excluded = excluded

    def usage_between(self, customer_id: int | None, start: int, end: int, as_of: AsOf | None) -> Iterator[UsageRecord]:
        """Yield the other records in [start, end), ordered by (occurred_at, position), as known as of `as_of`."""
        records = self._source.usage_between(customer_id, start, end, as_of)
        return (record for record in records if record.position not in self._excluded)
