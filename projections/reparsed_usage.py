"""The usage of a meter under other rules than it is folded under: its payloads are parsed again.

Such rules are those of an earlier time or of a closed period. A meter event that they can't parse doesn't count under
them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

import msgspec

from ..domain.counting import UsageRecord
from ..domain.errors import TallybookError
from ..domain.formulas import ValueType
from ..domain.rules import Rules
from .dimensions import encode_dimensions
from .models import AsOf
from .ports import ReadModelReader
from .usage_source import CustomerRecords, UsageSource

PayloadLoader = Callable[[Sequence[int]], Mapping[int, Mapping[str, str]]]
"""Returns the payloads of the meter events at positions."""

_BATCH_SIZE = 500
_PARSING_FIELDS = ("customer_key", "value_key", "dimension_keys", "optional_dimension_keys", "filter")
"""The fields of rules that, with the type of the value, decide how a payload is parsed."""


class LocalCustomers(dict[str, int]):
    """Maps customers to ids: those of the read models, and negative ones for customers that these don't know."""

    def __init__(self, reader: ReadModelReader) -> None:
        super().__init__()
        self._reader = reader
        self._local_names: list[str] = []

    def __missing__(self, customer: str) -> int:
        customer_id = self._reader.customer_id(customer)
        if customer_id is None:
            self._local_names.append(customer)
            customer_id = -len(self._local_names)
        self[customer] = customer_id
        return customer_id

    def names(self, customer_ids: Iterable[int]) -> Mapping[int, str]:
        """Return the customers by their ids."""
        wanted = list(customer_ids)
        local = {customer_id: self._local_names[-customer_id - 1] for customer_id in wanted if customer_id < 0}
        stored = self._reader.customer_names([customer_id for customer_id in wanted if customer_id > 0])
        return {**stored, **local}


class ReparsedUsage:
    """The usage of a meter, folded under one part of its rules over time, under other rules. It has no stored parts."""

    parts = None

    def __init__(
        self, projected: UsageSource, rules: Rules, load_payloads: PayloadLoader, customers: LocalCustomers
    ) -> None:
        self.rules = rules
        self._projected = projected
        self._load_payloads = load_payloads
        self._customers = customers
        self._same_customers = rules.customer_key == projected.rules.customer_key
        # Only the window differs, or the records without a value don't count.
        self._same_payload = ValueType.TEXT not in {
            rules.formula.rule.value_type, projected.rules.formula.rule.value_type
        } and all(getattr(rules, field) == getattr(projected.rules, field) for field in _PARSING_FIELDS)  # fmt: skip
        self._cached_range: tuple[int, int, AsOf | None] | None = None
        self._cached_records: Mapping[int, list[UsageRecord]] = {}

    def customer_id(self, customer: str) -> int | None:
        """Return the id of a customer."""
        return self._projected.customer_id(customer) if self._same_customers else self._customers[customer]

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
        return self._counted_by_rules(self._projected.usage_between(customer_id, start, end, as_of))

    def usage_by_customer(self, start: int, end: int, as_of: AsOf | None) -> Iterator[CustomerRecords]:
        """Yield each customer that has records in [start, end), by id, with these in order of time.

        If the rules have another customer key, the records of all customers are in memory meanwhile.
        """
        if not self._same_customers:
            yield from sorted(self._by_customer(start, end, as_of).items())
            return
        for customer_id, projected in self._projected.usage_by_customer(start, end, as_of):
            if records := list(self._counted_by_rules(iter(projected))):
                yield customer_id, records

    def last_changes(self, start: int, end: int, after: int) -> Mapping[int, int] | None:
        """Return, by customer id, the position of the last change after `after` of the usage in [start, end)."""
        changes = self._projected.last_changes(start, end, after)
        return changes if self._same_customers or not changes else None

    def _counted_by_rules(self, projected: Iterator[UsageRecord]) -> Iterator[UsageRecord]:
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
                    customer_id=record.customer_id if self._same_customers else self._customers[customer],
                    value=value,
                    dimensions=encode_dimensions(dimension_values),
                    unique_value=unique_value,
                    is_filtered=is_filtered,
                )
