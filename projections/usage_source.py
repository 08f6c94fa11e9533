"""Where a view's usage comes from: as it was folded, or read anew under other rules.

The read models are folded under one set of rules for each meter. Under others, of an earlier day or of a closed period,
the same meter events are read again: from their payloads, if other keys of these are read. What the rules that are
asked about can't read doesn't count under them.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Protocol

import msgspec

from ..domain.counting import Usage
from ..domain.errors import TallybookError
from ..domain.rules import Formula, Rules
from .buckets import bucket_end, bucket_sizes
from .fold import dimensions_key
from .rows import AsOf, Bucket, ProjectedMeter, Rows
from .runs import Run

Payloads = Callable[[Sequence[int]], Mapping[int, Mapping[str, str]]]
"""Gives the payloads that were recorded at positions."""

_AT_A_TIME = 500


class UsageSource(Protocol):
    """The usage of one meter under some rules. Times are microseconds since 1970 UTC."""

    @property
    def rules(self) -> Rules:
        """The rules that the usage is read under."""
        ...

    @property
    def bucket_sizes(self) -> Sequence[int]:
        """The sizes of the buckets there are, in seconds, largest first."""
        ...

    @property
    def has_runs(self) -> bool:
        """Whether what the runs add up to is what they count for."""
        ...

    def customer_number(self, customer: str) -> int | None:
        """The number of a customer, if it has any usage."""
        ...

    def customer_names(self, numbers: Iterable[int]) -> Mapping[int, str]:
        """The customers behind numbers."""
        ...

    def extent(self, customer: int | None) -> tuple[int, int] | None:
        """A range [start, end) that holds all usage of a customer, or of everyone where None."""
        ...

    def usages(self, customer: int | None, start: int, end: int, as_of: AsOf | None) -> Iterator[Usage]:
        """Usages in [start, end), by (occurred_at, position), as they were known."""
        ...

    def runs(self, customer: int | None, start: int, end: int) -> Iterator[Run]:
        """The runs with usages in [start, end)."""
        ...

    def usages_of(self, runs: Sequence[Run]) -> Iterator[list[Usage]]:
        """The usages of each of `runs`."""
        ...

    def buckets(self, bucket_seconds: int, customer: int | None, start: int, end: int) -> Iterator[Bucket]:
        """The buckets of one size that begin in [start, end)."""
        ...


class FoldedUsage:
    """The usage of a meter under the rules that it was folded under."""

    def __init__(self, rows: Rows, meter: ProjectedMeter) -> None:
        self.rules = meter.rules
        self.bucket_sizes = bucket_sizes(meter.rules.event_time_window)
        self.has_runs = meter.rules.event_time_window is None
        self.customer_number = rows.customer_number
        self.customer_names = rows.customer_names
        self._rows = rows
        self._meter = meter.number

    def extent(self, customer: int | None) -> tuple[int, int] | None:
        """A range [start, end) that holds all usage of a customer, or of everyone where None."""
        starts = self._rows.extent(self._meter, customer, self.bucket_sizes[-1])
        return None if starts is None else (starts[0], bucket_end(starts[1], self.bucket_sizes[-1]))

    def usages(self, customer: int | None, start: int, end: int, as_of: AsOf | None) -> Iterator[Usage]:
        """Usages in [start, end), by (occurred_at, position), as they were known."""
        return self._rows.usages(self._meter, customer, self.bucket_sizes[-1], start, end, as_of)

    def runs(self, customer: int | None, start: int, end: int) -> Iterator[Run]:
        """The runs with usages in [start, end)."""
        return self._rows.runs(self._meter, customer, self.bucket_sizes[-1], start, end)

    def usages_of(self, runs: Sequence[Run]) -> Iterator[list[Usage]]:
        """The usages of each of `runs`."""
        return self._rows.usages_of(self._meter, runs)

    def buckets(self, bucket_seconds: int, customer: int | None, start: int, end: int) -> Iterator[Bucket]:
        """The buckets of one size that begin in [start, end)."""
        return self._rows.buckets(self._meter, bucket_seconds, customer, start, end)


class UsageReadAnew:
    """The usage of a meter under other rules than it was folded under. There are no buckets or runs of it."""

    bucket_sizes = ()
    has_runs = False

    def __init__(self, folded: FoldedUsage, rules: Rules, payloads: Payloads) -> None:
        self.rules = rules
        self._folded = folded
        self._payloads = payloads
        self._same_customers = rules.customer_key == folded.rules.customer_key
        self._same_payload = (
            self._same_customers
            and rules.value_key == folded.rules.value_key
            and rules.dimension_keys == folded.rules.dimension_keys
        )
        self._numbers: dict[str, int] = {}
        self._range: tuple[int, int, AsOf | None] | None = None
        self._of_range: Mapping[int, list[Usage]] = {}

    def customer_number(self, customer: str) -> int | None:
        """The number of a customer."""
        if self._same_customers:
            return self._folded.customer_number(customer)
        return self._numbered(customer)

    def customer_names(self, numbers: Iterable[int]) -> Mapping[int, str]:
        """The customers behind numbers."""
        if self._same_customers:
            return self._folded.customer_names(numbers)
        names = {number: name for name, number in self._numbers.items()}
        return {number: names[number] for number in numbers}

    def extent(self, customer: int | None) -> tuple[int, int] | None:
        """A range [start, end) that holds all usage of a customer, or of everyone."""
        return self._folded.extent(customer if self._same_customers else None)

    def usages(self, customer: int | None, start: int, end: int, as_of: AsOf | None) -> Iterator[Usage]:
        """Usages in [start, end), by (occurred_at, position), as they were known.

        Under rules that name other customers, those of one customer are found by reading everyone's: once for a range,
        however many customers are asked for one after another.
        """
        if customer is not None and not self._same_customers:
            return iter(self._by_customer(start, end, as_of).get(customer, ()))
        folded = self._folded.usages(customer, start, end, as_of)
        if self._same_payload:
            needs_value = self.rules.formula is not Formula.COUNT
            return (usage for usage in folded if usage.value is not None or not needs_value)
        return self._read_anew(folded)

    def runs(self, customer: int | None, start: int, end: int) -> Iterator[Run]:  # noqa: ARG002
        """None."""
        return iter(())

    def usages_of(self, runs: Sequence[Run]) -> Iterator[list[Usage]]:  # noqa: ARG002
        """None."""
        return iter(())

    def buckets(self, bucket_seconds: int, customer: int | None, start: int, end: int) -> Iterator[Bucket]:  # noqa: ARG002
        """None."""
        return iter(())

    def _by_customer(self, start: int, end: int, as_of: AsOf | None) -> Mapping[int, list[Usage]]:
        if self._range != (start, end, as_of):
            found: defaultdict[int, list[Usage]] = defaultdict(list)
            for usage in self._read_anew(self._folded.usages(None, start, end, as_of)):
                found[usage.customer].append(usage)
            self._range, self._of_range = (start, end, as_of), found
        return self._of_range

    def _read_anew(self, folded: Iterator[Usage]) -> Iterator[Usage]:
        read = self.rules.reader()
        while chunk := list(islice(folded, _AT_A_TIME)):
            payloads = self._payloads([usage.position for usage in chunk])
            for usage in chunk:
                try:
                    name, value, dimensions = read(payloads[usage.position])
                except TallybookError:
                    continue
                yield msgspec.structs.replace(
                    usage,
                    customer=usage.customer if self._same_customers else self._numbered(name),
                    value=value,
                    dimensions=dimensions_key(dimensions),
                )

    def _numbered(self, customer: str) -> int:
        return self._numbers.setdefault(customer, len(self._numbers) + 1)
