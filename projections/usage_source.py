"""The source of a view's usage: as projected, or parsed again under other rules.

The read models are folded under one set of rules for each meter. For other rules, those of an earlier time or of a
closed period, the payloads are parsed again if the rules use other keys. A meter event that the other rules can't parse
doesn't count under them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Protocol

import msgspec

from ..domain.counting import UsageRecord
from ..domain.errors import TallybookError
from ..domain.formulas import ValueType
from ..domain.rules import Rules
from ..domain.totals import Totals
from .blocks import BucketKey, UsageBlock
from .buckets import bucket_end, bucket_sizes
from .dimensions import encode_dimensions
from .models import AsOf, Bucket, ProjectedMeter
from .ports import ReadModelReader

PayloadLoader = Callable[[Sequence[int]], Mapping[int, Mapping[str, str]]]
"""Returns the payloads of the meter events at positions."""

_BATCH_SIZE = 500
_SAME_RECORDS = {
    (ValueType.NUMBER, ValueType.NUMBER),
    (ValueType.NUMBER, ValueType.OPTIONAL_NUMBER),
    (ValueType.OPTIONAL_NUMBER, ValueType.OPTIONAL_NUMBER),
    (ValueType.TEXT, ValueType.TEXT),
}
"""The value types of two formulas, if records that are folded under the first are counted by the second."""
_PARSING_FIELDS = ("customer_key", "value_key", "dimension_keys", "optional_dimension_keys", "filter")
"""The fields of rules that decide how a payload is parsed, beside the type of the value."""


class StoredParts(Protocol):
    """The usage of one meter in buckets and blocks, with totals of the records that count."""

    @property
    def bucket_sizes(self) -> Sequence[int]:
        """The sizes of the buckets in seconds, largest first."""
        ...

    def totals_between(
        self, bucket_seconds: int, customer_id: int | None, start: int, end: int
    ) -> Iterator[tuple[BucketKey, Totals]]:
        """Yield the key and the totals of each bucket of one size that starts in [start, end)."""
        ...

    def buckets_between(self, bucket_seconds: int, customer_id: int | None, start: int, end: int) -> Iterator[Bucket]:
        """Yield the buckets of one size that start in [start, end)."""
        ...

    def hours_of(self, days: Sequence[BucketKey]) -> Iterator[Bucket]:
        """Yield the hour buckets of each day bucket among `days`."""
        ...

    def blocks_between(self, customer_id: int | None, start: int, end: int) -> Iterator[UsageBlock]:
        """Yield the blocks with usage in [start, end)."""
        ...

    def blocks_of(self, keys: Sequence[BucketKey]) -> Iterator[UsageBlock]:
        """Yield all blocks of each bucket of the smallest size among `keys`, in ledger order."""
        ...

    def usage_in(self, blocks: Sequence[UsageBlock]) -> Iterator[list[UsageRecord]]:
        """Yield the records of each block, in ledger order."""
        ...


class UsageSource(Protocol):
    """The usage of one meter under some rules. Times are microseconds since 1970 UTC."""

    @property
    def rules(self) -> Rules:
        """The rules of the records."""
        ...

    @property
    def parts(self) -> StoredParts | None:
        """The stored parts of the usage; None if their totals aren't those of these rules."""
        ...

    def customer_id(self, customer: str) -> int | None:
        """Return the id of a customer, or None if it has no usage."""
        ...

    def customer_names(self, customer_ids: Iterable[int]) -> Mapping[int, str]:
        """Return the customers by their ids."""
        ...

    def time_span(self, customer_id: int | None) -> tuple[int, int] | None:
        """Return a range [start, end) that contains all usage of a customer, or of all customers if None."""
        ...

    def usage_between(self, customer_id: int | None, start: int, end: int, as_of: AsOf | None) -> Iterator[UsageRecord]:
        """Yield the records in [start, end), ordered by (occurred_at, position), as known as of `as_of`."""
        ...


def counts_same_records(folded: Rules, rules: Rules) -> bool:
    """Return whether `rules` count the same records with the same values as the rules that usage is folded under.

    They may have another formula that reads the same values. But the formula `count` also folds records without a
    value, which others don't count.
    """
    value_types = folded.formula.rule.value_type, rules.formula.rule.value_type
    if value_types not in _SAME_RECORDS:
        return False
    of_quantity = {"formula": folded.formula, "multiplier": folded.multiplier, "rounding": folded.rounding}
    return folded == rules.model_copy(update=of_quantity)


class ProjectedUsage:
    """The usage of a meter under rules that count the records that it is folded to: its records and stored parts."""

    def __init__(self, reader: ReadModelReader, meter: ProjectedMeter, rules: Rules | None = None) -> None:
        self.rules = rules or meter.rules
        self.bucket_sizes = bucket_sizes(meter.rules.event_time_window)
        self.customer_id = reader.customer_id
        self.customer_names = reader.customer_names
        self.totals_between = partial(reader.totals_between, meter.meter_id)
        self.buckets_between = partial(reader.buckets_between, meter.meter_id)
        self.hours_of = partial(reader.hours_of, meter.meter_id)
        self.blocks_of = partial(reader.blocks_of, meter.meter_id)
        self.usage_in = partial(reader.usage_in, meter.meter_id)
        self._reader = reader
        self._meter_id = meter.meter_id

    @property
    def parts(self) -> StoredParts:
        """The stored parts: the source itself."""
        return self

    def time_span(self, customer_id: int | None) -> tuple[int, int] | None:
        """Return a range [start, end) that contains all usage of a customer, or of all customers if None."""
        starts = self._reader.time_span(self._meter_id, customer_id, self.bucket_sizes[-1])
        return None if starts is None else (starts[0], bucket_end(starts[1], self.bucket_sizes[-1]))

    def usage_between(self, customer_id: int | None, start: int, end: int, as_of: AsOf | None) -> Iterator[UsageRecord]:
        """Yield the records in [start, end), ordered by (occurred_at, position), as known as of `as_of`."""
        return self._reader.usage_between(self._meter_id, customer_id, self.bucket_sizes[-1], start, end, as_of)

    def blocks_between(self, customer_id: int | None, start: int, end: int) -> Iterator[UsageBlock]:
        """Yield the blocks with usage in [start, end)."""
        return self._reader.blocks_between(self._meter_id, customer_id, self.bucket_sizes[-1], start, end)


class ReparsedUsage:
    """The usage of a meter under other rules than it is folded under. It has no stored parts."""

    parts = None

    def __init__(self, projected: ProjectedUsage, rules: Rules, load_payloads: PayloadLoader) -> None:
        self.rules = rules
        self._projected = projected
        self._load_payloads = load_payloads
        self._same_customers = rules.customer_key == projected.rules.customer_key
        # Only the window differs, or the records without a value don't count.
        self._same_payload = ValueType.TEXT not in {
            rules.formula.rule.value_type, projected.rules.formula.rule.value_type
        } and all(getattr(rules, field) == getattr(projected.rules, field) for field in _PARSING_FIELDS)  # fmt: skip
        self._local_ids: dict[str, int] = {}
        self._cached_range: tuple[int, int, AsOf | None] | None = None
        self._cached_records: Mapping[int, list[UsageRecord]] = {}

    def customer_id(self, customer: str) -> int | None:
        """Return the id of a customer."""
        if self._same_customers:
            return self._projected.customer_id(customer)
        return self._local_id(customer)

    def customer_names(self, customer_ids: Iterable[int]) -> Mapping[int, str]:
        """Return the customers by their ids."""
        if self._same_customers:
            return self._projected.customer_names(customer_ids)
        names = {customer_id: name for name, customer_id in self._local_ids.items()}
        return {customer_id: names[customer_id] for customer_id in customer_ids}

    def time_span(self, customer_id: int | None) -> tuple[int, int] | None:
        """Return a range [start, end) that contains all usage of a customer, or of all customers."""
        return self._projected.time_span(customer_id if self._same_customers else None)

    def usage_between(self, customer_id: int | None, start: int, end: int, as_of: AsOf | None) -> Iterator[UsageRecord]:
        """Yield the records in [start, end), ordered by (occurred_at, position), as known as of `as_of`.

        If the rules have another customer key, the records of one customer are found by reading those of all customers.
        The result is cached for consecutive queries of the same range.
        """
        if customer_id is not None and not self._same_customers:
            return iter(self._by_customer(start, end, as_of).get(customer_id, ()))
        projected = self._projected.usage_between(customer_id, start, end, as_of)
        if self._same_payload:
            needs_value = self.rules.formula.rule.value_type is ValueType.NUMBER
            return (record for record in projected if record.value is not None or record.is_filtered or not needs_value)
        return self._reparse(projected)

    def _by_customer(self, start: int, end: int, as_of: AsOf | None) -> Mapping[int, list[UsageRecord]]:
        if self._cached_range != (start, end, as_of):
            records: defaultdict[int, list[UsageRecord]] = defaultdict(list)
            for record in self._reparse(self._projected.usage_between(None, start, end, as_of)):
                records[record.customer_id].append(record)
            self._cached_range, self._cached_records = (start, end, as_of), records
        return self._cached_records

    def _reparse(self, projected: Iterator[UsageRecord]) -> Iterator[UsageRecord]:
        parse = self.rules.parser()
        while chunk := list(islice(projected, _BATCH_SIZE)):
            payloads = self._load_payloads([record.position for record in chunk])
            for record in chunk:
                try:
                    customer, value, dimension_values, unique_value, is_filtered = parse(payloads[record.position])
                except TallybookError:
                    continue
                yield msgspec.structs.replace(
                    record,
                    customer_id=record.customer_id if self._same_customers else self._local_id(customer),
                    value=value,
                    dimensions=encode_dimensions(dimension_values),
                    unique_value=unique_value,
                    is_filtered=is_filtered,
                )

    def _local_id(self, customer: str) -> int:
        return self._local_ids.setdefault(customer, len(self._local_ids) + 1)
