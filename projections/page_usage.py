"""The usage of one page of the ledger, by meter, part of its rules and customer, while the page is folded."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence

from .blocks import CombinationKey, UsageRow
from .buckets import bucket_sizes
from .high_water_marks import PageMarks
from .models import CancellationMark, FoldedRules, ProjectedMeter


class PartUsage:
    """The usage in one page of the ledger that is folded under one part of a meter's rules over time.

    It has the new records, in ledger order, by customer and dimension values, and the cancellations and revocations of
    new or earlier records.
    """

    def __init__(self, folded: FoldedRules) -> None:
        self.folded = folded
        self.parse = folded.rules.parser()
        self.parse_columns = folded.rules.column_parser()
        self.bucket_seconds = bucket_sizes(folded.rules.event_time_window)[-1]
        self.rows: defaultdict[CombinationKey, list[UsageRow]] = defaultdict(list)
        self.cancellations: list[CancellationMark] = []
        self._rows_of_customers: _RowsOfCustomers | None = None

    def rows_of_customers(self, customer_ids: Mapping[str, int]) -> Mapping[str, list[UsageRow]]:
        """Return, by customer, the new records without dimension values, to which others can be added."""
        if self._rows_of_customers is None:
            self._rows_of_customers = _RowsOfCustomers(self.rows, customer_ids)
        return self._rows_of_customers

    def replace_customers(self, customer_ids: Sequence[int]) -> None:
        """Replace each customer, which was folded under an index of `customer_ids`, with its id there."""
        rows_by_number = self.rows
        self.rows = defaultdict(list)
        for (customer, dimensions), rows in rows_by_number.items():
            self.rows[customer_ids[customer], dimensions] = rows
        self.cancellations = [
            mark._replace(key=(customer_ids[mark.key[0]], *mark.key[1:])) for mark in self.cancellations
        ]


class _RowsOfCustomers(dict[str, list[UsageRow]]):
    """The new records of customers without dimension values. The list of a customer is looked up once."""

    def __init__(self, rows: Mapping[CombinationKey, list[UsageRow]], customer_ids: Mapping[str, int]) -> None:
        super().__init__()
        self._rows = rows
        self._customer_ids = customer_ids

    def __missing__(self, customer: str) -> list[UsageRow]:
        rows = self[customer] = self._rows[self._customer_ids[customer], ""]
        return rows


class MeterPageUsage:
    """The usage of one meter in one page of the ledger, and whether the meter was configured or its rules changed."""

    def __init__(self, meter: ProjectedMeter, *, has_meter_changes: bool = False) -> None:
        self.meter = meter
        self.has_meter_changes = has_meter_changes
        self.parts = [PartUsage(folded) for folded in meter.folded]
        self.only_part = self.parts[0] if len(self.parts) == 1 else None
        self._starts = [folded.start for folded in meter.folded]

    def part_at(self, occurred_at: int) -> PartUsage:
        """Return the part for usage that occurred at a time in microseconds."""
        return self.only_part or self.parts[bisect_right(self._starts, occurred_at) - 1]

    @property
    def has_changes(self) -> bool:
        """Whether the page changes the read model of the meter."""
        return self.has_meter_changes or any(part.rows or part.cancellations for part in self.parts)


class PageUsage:
    """One page: the usage of each of its meters, and its high-water marks.

    `days` are the UTC days on which its meter events occurred, numbered from 1970-01-01.

    Parsers are made for the meters of the page alone: a ledger may have thousands, and most pages few events.
    """

    def __init__(self, meters: Mapping[str, ProjectedMeter]) -> None:
        self.marks = PageMarks()
        self.days: set[int] = set()
        self.only_parts = _OnlyParts(self)
        self._known_meters = meters
        self._usage: dict[str, MeterPageUsage] = {}
        self._counting_names: dict[str, list[str]] = {}
        """By event name, the meters that count its events."""
        self._counting: dict[str, tuple[MeterPageUsage, ...]] = {}
        """By event name, the usage of these meters."""
        for meter in meters.values():
            if meter.folded:
                self._counting_names.setdefault(meter.recorded_name, []).append(meter.event_name)

    def add(self, meter: ProjectedMeter, *, has_meter_changes: bool = False) -> None:
        """Add a meter, which counts the events of its name or of its source; none if it isn't folded."""
        self._usage[meter.event_name] = MeterPageUsage(meter, has_meter_changes=has_meter_changes)
        if meter.folded:
            self._counting_names.setdefault(meter.recorded_name, []).append(meter.event_name)
            self._counting.pop(meter.recorded_name, None)
            self.only_parts.pop(meter.recorded_name, None)

    def find(self, event_name: str) -> MeterPageUsage | None:
        """Return the usage of a meter; None if there is no such meter."""
        usage = self._usage.get(event_name)
        if usage is None and event_name in self._known_meters:
            usage = self._usage[event_name] = MeterPageUsage(self._known_meters[event_name])
        return usage

    def is_counted(self, event_name: str) -> bool:
        """Return whether there is a meter that counts the events of an event name."""
        return event_name in self._counting_names

    def counting(self, event_name: str) -> tuple[MeterPageUsage, ...]:
        """Return the usage of the meters that count the events of an event name. Raises KeyError."""
        counting = self._counting.get(event_name)
        if counting is None:
            usages = map(self.find, self._counting_names[event_name])
            counting = self._counting[event_name] = tuple(usage for usage in usages if usage is not None)
        return counting

    def parts_at(self, event_name: str, occurred_at: int) -> tuple[PartUsage, ...]:
        """Return the part of each meter that counts an event that occurred then. Raises KeyError."""
        return tuple(meter_usage.part_at(occurred_at) for meter_usage in self.counting(event_name))

    @property
    def changed(self) -> list[MeterPageUsage]:
        """The usage of each meter whose read model the page changes."""
        return [meter_usage for meter_usage in self._usage.values() if meter_usage.has_changes]

    def last_meter_id(self) -> int:
        """Return the highest number of rows of a meter; 0 if there is none."""
        meters = [*self._known_meters.values(), *(usage.meter for usage in self._usage.values())]
        return max((folded.meter_id for meter in meters for folded in meter.folded), default=0)


class _OnlyParts(dict[str, tuple[PartUsage, ...] | None]):
    """By event name, the part of each meter that counts its events; None if one of them has several parts."""

    def __init__(self, page_usage: PageUsage) -> None:
        super().__init__()
        self._page_usage = page_usage

    def __missing__(self, event_name: str) -> tuple[PartUsage, ...] | None:
        counting = self._page_usage.counting(event_name)
        only_parts = tuple(usage.only_part for usage in counting if usage.only_part is not None)
        value = self[event_name] = only_parts if len(only_parts) == len(counting) else None
        return value
