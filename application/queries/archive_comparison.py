"""Compares the live read models with an archive: DuckDB computes every total and every closed period by SQL."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from decimal import Decimal
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from ...domain.closed_period import ClosedPeriod
from ...domain.errors import ArchiveMismatch
from ...domain.rules_schedule import ALL_TIME, RulesInRange, bound_to_datetime
from ...domain.timestamps import MICROSECONDS_PER_SECOND
from ...domain.totals import Totals
from ...projections.buckets import MONTH_SECONDS, bucket_end, bucket_sizes
from ...projections.models import AsOf, ProjectedMeter
from ...projections.ports import ReadModelReader
from ..archive.results import ArchiveComparison, TotalDifference
from ..archive.sql.dialects import DialectName, dialect_of
from ..archive.sql.digest_lines import digest_lines_statement
from ..archive.sql.segments import DuckDBSegments, Segments
from ..archive.sql.statement import UsageSelection
from ..archive.sql.totals_statement import TotalsQuery, ValueLimits, totals_statement
from ..storage.ports import CorruptedReadModel
from .dimension_query import NO_DIMENSIONS, DimensionArguments
from .meter_query import MeterQuery, MeterQueryFactory
from .range_views import bounds_of, under_rules_of
from .sql import usage_selection
from .verification import StoredClosing

MAX_DIFFERENCES = 100
_DIALECT = dialect_of(DialectName.DUCKDB)
_MONTH = "epoch_us(date_trunc('month', make_timestamp(occurred_us)))"
_Closings = Callable[[int], Sequence[StoredClosing]]


# Plain tuples: the garbage collector visits named ones again and again, a fifth of all time for many totals.
_Key = tuple[str, int, int, tuple[str | None, ...]]
"""A customer, the start and end of a window in microseconds, and the values of dimensions."""
_decimal = lru_cache(1 << 14)(Decimal)
"""Reads a number. Many totals have the same ones, and most of one event have it six times."""
_Numbers = tuple[Decimal | int | None, ...]
"""The numbers of a total, in the order of _COLUMNS. Empty in place of a meter that only one side has."""


class _ComparedTotals(NamedTuple):
    """Totals of the archive and of the read models. `keys` are those of their dimensions."""

    keys: tuple[str, ...]
    expected: Mapping[_Key, _Numbers]
    found: Mapping[_Key, _Numbers]

    def differences(self, event_name: str) -> Iterator[TotalDifference]:
        """Yield the totals that differ, or that only one side has. Equal numbers may have different digits."""
        if self.expected == self.found:
            return
        keys = self.expected.keys() | self.found.keys()
        for key in sorted((key for key in keys if self.found.get(key) != self.expected.get(key)), key=repr):
            customer, start, end, values = key
            yield TotalDifference(
                event_name,
                customer,
                bound_to_datetime(start),
                bound_to_datetime(end),
                dict(zip(self.keys, values, strict=False)),
                _text(self.found.get(key)),
                _text(self.expected.get(key)),
            )


class ArchiveComparer:
    """Compares totals of the live read models with those that DuckDB computes from an archive."""

    def __init__(self, meter_queries: MeterQueryFactory, closings: _Closings) -> None:
        self._meter_queries = meter_queries
        self._closings = closings

    def compare(
        self, location: str, files: Sequence[str], progress: Callable[[int, int], None] | None = None
    ) -> ArchiveComparison:
        """Compare the totals of all buckets of all meters, and the digests of all closed periods.

        They are compared as of the last event of the archive. `progress` is called with the number of meters that were
        compared, and their number. Raises ArchiveMismatch if the archive has events that the ledger hasn't.
        """
        differences: list[TotalDifference] = []
        totals = difference_count = 0

        def add(found: Iterable[TotalDifference]) -> None:
            nonlocal difference_count
            for difference in found:
                difference_count += 1
                if len(differences) < MAX_DIFFERENCES:
                    differences.append(difference)

        with closing(DuckDBSegments(files)) as segments, self._meter_queries.session() as live:
            head = live.position()
            if segments.head > head:
                raise ArchiveMismatch(
                    f"The archive ends at position {segments.head} and the ledger at {head}: it is of another ledger.",
                    field="destination",
                    value=location,
                )
            known = None if segments.head == head else AsOf(segments.head)
            names = sorted({*segments.meter_names(), *(name for name, _ in _configured(live, known))})
            for number, event_name in enumerate(names, 1):
                try:
                    for compared in self._compared_totals(segments, live, event_name, known):
                        totals += len(compared.expected)
                        add(compared.differences(event_name))
                except CorruptedReadModel:
                    start, end = map(bound_to_datetime, ALL_TIME)
                    add([TotalDifference(event_name, "", start, end, {}, "unreadable", "the meter")])
                live.position()  # a database may drop a session that sends no query for minutes
                if progress is not None:
                    progress(number, len(names))
            closings = self._closings(segments.head)
            add(self._closing_differences(segments, live, closings))
        return ArchiveComparison(location, segments.head, totals, len(closings), difference_count, tuple(differences))

    def _compared_totals(
        self, segments: Segments, live: ReadModelReader, event_name: str, known: AsOf | None
    ) -> Iterator["_ComparedTotals"]:
        """Yield the totals of a meter from the archive and from the read models, for each size of its buckets.

        Each part of its rules has buckets of its own.
        """
        archived = segments.meter(event_name)
        if archived is None or dict(_configured(live, known)).get(event_name) is None:
            existing: dict[_Key, _Numbers] = {("", *ALL_TIME, ()): ()}
            yield _ComparedTotals((), existing, {}) if archived is not None else _ComparedTotals((), {}, existing)
            return
        meter = self._meter_queries.open_meter(live, event_name, known)
        schedule = archived.schedule(AsOf(segments.head))
        for part in schedule.whole_windows(*ALL_TIME):
            rules, bounds = part.effective.rules, (part.start, part.end)
            keys = rules.all_dimension_keys
            selection = UsageSelection(event_name, archived.recorded_name, (part,), segments.head)
            query = meter.query(bounds, DimensionArguments({}, keys) if keys else NO_DIMENSIONS)
            # Wrong limits are found: the statement returns NULL for longer values or more events.
            limits = ValueLimits.of(list(query.view.totals(None, bounds, query.as_of).values()))
            sizes = bucket_sizes(rules.event_time_window)
            windows = tuple(_window(seconds) for seconds in sizes)
            totals_query = TotalsQuery(selection, rules, True, keys, limits, windows)
            expected: list[dict[_Key, _Numbers]] = [{} for _ in sizes]
            first_number = 3 + len(keys)
            for row in segments.run(totals_statement(totals_query, _DIALECT)):
                customer, number, start = row[:3]
                key = customer, start, bucket_end(start, sizes[int(number)]), row[3:first_number]
                expected[number][key] = tuple([text if text is None else _decimal(text) for text in row[first_number:]])
            for totals in expected:
                yield _ComparedTotals(keys, totals, _live_totals(query, part, totals))

    def _closing_differences(
        self, segments: Segments, live: ReadModelReader, closings: Iterable[StoredClosing]
    ) -> Iterator[TotalDifference]:
        """Compare the digest of each closing with that of the lines that DuckDB makes, for many customers at once."""
        by_range: defaultdict[tuple[object, ...], list[ClosedPeriod]] = defaultdict(list)
        selections: dict[tuple[object, ...], UsageSelection] = {}
        for period, stored_at, earlier in closings:
            position, counted = min(period.position, stored_at - 1), bounds_of(period)
            key = (period.event_name, counted, position, period.rules, period.revision)
            if key not in selections:
                meter = self._meter_queries.open_meter(live, period.event_name, AsOf(position))
                if earlier is not None:
                    meter = under_rules_of(meter, counted, earlier.rules, earlier.revision)
                query = meter.exact_query(counted)._replace(position=position)
                selections[key] = usage_selection(query, None, NO_DIMENSIONS)
            by_range[key].append(period)
        for key, periods in by_range.items():
            digests: defaultdict[str, Any] = defaultdict(hashlib.sha256)
            statement = digest_lines_statement(selections[key], periods[0].rules, _DIALECT, with_customer=True)
            for customer, line in segments.run(statement):
                digests[customer].update(f"{line}\n".encode())
            for period in periods:
                expected = digests[period.customer].hexdigest()
                if expected != period.digest:
                    yield TotalDifference(
                        period.event_name, period.customer, period.start, period.end, {}, period.digest, expected
                    )


def _window(seconds: int) -> str:
    """Return the expression of the start of the bucket of an event."""
    if seconds == MONTH_SECONDS:
        return _MONTH
    return f"occurred_us - {_DIALECT.modulo('occurred_us', seconds * MICROSECONDS_PER_SECOND)}"


def _configured(live: ReadModelReader, known: AsOf | None) -> Iterator[tuple[str, ProjectedMeter]]:
    return ((name, meter) for name, meter in live.meters().items() if meter.is_known(known))


def _live_totals(query: MeterQuery, part: RulesInRange, expected: Iterable[_Key]) -> dict[_Key, _Numbers]:
    """Return the totals of the read models in the windows of the expected ones, and in the ranges between them."""
    start, end = part.start, part.end
    windows = {(max(first, start), min(last, end)): (first, last) for _, first, last, _ in expected}
    boundaries = sorted({start, end, *(bound for window in windows for bound in window)})
    rules = part.effective.rules
    stored = query.view.totals(None, boundaries, query.as_of, are_parts_enough=True)
    # A formula that needs the records has its quantity from them, and the stored totals are compared all the same.
    of_quantity = stored if rules.formula.rule.is_stored else query.view.totals(None, boundaries, query.as_of)
    keys = stored if of_quantity is stored else stored.keys() | of_quantity.keys()
    names = query.view.customer_names({customer_id for _, customer_id, _ in keys})
    ranges = [windows.get(between, between) for between in pairwise(boundaries)]
    quantity, billable = rules.quantity_function(), rules.billable
    found: dict[_Key, _Numbers] = {}
    for key in keys:
        index, customer_id, group = key
        totals = stored.get(key, _NO_TOTALS)
        if totals.count or key in of_quantity:
            first, last = ranges[index]
            value = quantity(of_quantity.get(key, _NO_TOTALS))
            numbers = value, billable(value), totals.sum, totals.count, totals.last, totals.min, totals.max
            found[names[customer_id], first, last, group] = numbers
    return found


_NO_TOTALS = Totals()
_COLUMNS = ("value", "billable", "sum", "count", "last", "min", "max")


def _text(numbers: _Numbers | None) -> str | None:
    """Return the numbers of a total as text, without trailing zeros."""
    if numbers is None:
        return None
    named = zip(_COLUMNS, numbers, strict=True) if numbers else ()
    return ", ".join(f"{name} {_number(number)}" for name, number in named) or "the meter"


def _number(number: Decimal | int | None) -> str:
    text = "none" if number is None else format(number, "f") if isinstance(number, Decimal) else str(number)
    return text.rstrip("0").rstrip(".") if "." in text else text
