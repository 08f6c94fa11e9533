"""Totals from the segments of an archive, by DuckDB or Spark: the same results as those of the ledger."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from ...domain.formulas import ValueType
from ...domain.timestamps import from_microseconds
from ...projections.models import AsOf, ProjectedMeter
from ..archive.sql.limits import limits_statement
from ..archive.sql.segments import Segments
from ..archive.sql.statement import UsageSelection
from ..archive.sql.totals_statement import TotalsQuery, ValueLimits, totals_statement
from ..archive.sql.typed_totals import TotalsByCustomer
from ..result_lists import TotalList
from ..results import Total
from ..similar_names import meter_not_found, meter_not_found_then
from ..validation import Moment, parse_as_of, require_event_name, require_time_range
from .dimension_query import Where, parse_dimensions, resolve_dimensions
from .meter_query import single_quantity_rules
from .total_results import CountedRange, TotalResults

TypedTotals = Callable[[UsageSelection, Sequence[str]], TotalsByCustomer | None]


def archive_totals(
    segments: Segments,
    event_name: str,
    start: datetime,
    end: datetime,
    *,
    as_of: datetime | int | None = None,
    where: Where | None = None,
    group_by: Sequence[str] = (),
    typed_totals: TypedTotals | None = None,
) -> TotalList:
    """Return the total of each customer with counted usage in [start, end), as `metering.totals` does.

    The rules are those in the archive. `typed_totals` returns the totals of a selection by dimension keys, or None if
    it can't. Raises as `metering.totals` does.
    """
    start, end, bounds = require_time_range(start, end)
    dimensions, event_name = parse_dimensions(where, group_by), require_event_name(event_name)
    known = _known(segments, as_of)
    meter = require_meter(segments, event_name, known)
    schedule = meter.schedule(known)
    parts = tuple(schedule.whole_windows(*bounds))
    rules = single_quantity_rules(event_name, [(part.start, part.effective.rules) for part in parts])
    keys = [key for part in parts for key in part.effective.rules.all_dimension_keys]
    resolve_dimensions(schedule.at(bounds[0]).rules, dimensions, keys or None)
    if not parts:
        return TotalList((), group_by)
    selection = UsageSelection(event_name, meter.recorded_name, parts, known.position, None, dimensions.where)
    counted_range = CountedRange.of(start, end, (parts[0].start, parts[-1].end))
    has_numbers = rules.formula.rule.value_type is not ValueType.TEXT
    if has_numbers and typed_totals is not None:
        by_customer = typed_totals(selection, dimensions.group_by)
        if by_customer is not None:
            results = TotalResults(rules, dimensions.group_by)
            totals = [results.total(by_customer[name], name, counted_range) for name in sorted(by_customer)]
            return TotalList(totals, dimensions.group_by)
    (limits,) = segments.run(limits_statement(selection, segments.dialect, has_numbers=has_numbers))
    query = TotalsQuery(selection, rules, True, (), ValueLimits(*limits))
    counted_range = CountedRange.of(start, end, (parts[0].start, parts[-1].end))
    totals = [
        _total(row[1:], counted_range, customer=row[0])
        for row in segments.run(totals_statement(query, segments.dialect))
    ]
    if dimensions.group_by:
        totals = _with_groups(segments, totals, replace(query, group_by=dimensions.group_by), counted_range)
    return TotalList(totals, dimensions.group_by)


def _known(segments: Segments, as_of: datetime | int | None) -> AsOf:
    known = parse_as_of(as_of)
    if isinstance(known, Moment):
        return AsOf(segments.position_at(known.at))
    return AsOf(segments.head if known is None else min(known.position, segments.head))


def require_meter(segments: Segments, event_name: str, known: AsOf) -> ProjectedMeter:
    """Return a meter that was configured at a position. Raises MeterNotFound."""
    meter = segments.meter(event_name)
    if meter is None:
        raise meter_not_found(event_name, segments.meter_names())
    if not meter.is_known(known):
        raise meter_not_found_then(event_name, from_microseconds(meter.history[0].recorded_at))
    return meter


def _with_groups(
    segments: Segments, totals: Sequence[Total], query: TotalsQuery, counted_range: CountedRange
) -> list[Total]:
    """Return totals with their groups, which a second statement computes in the same order."""
    keys = query.group_by
    by_customer: dict[str, list[Total]] = {total.customer: [] for total in totals if total.customer is not None}
    for customer, *row in segments.run(totals_statement(query, segments.dialect)):
        dimensions = dict(zip(keys, row[: len(keys)], strict=True))
        by_customer[customer].append(_total(row[len(keys) :], counted_range, customer, dimensions))
    return [replace(total, groups=tuple(by_customer[total.customer or ""])) for total in totals]


def _total(
    row: Sequence[Any],
    counted_range: CountedRange,
    customer: str,
    dimensions: dict[str, str | None] | None = None,
) -> Total:
    value, billable, total, count, last, smallest, largest = row
    last, smallest, largest = (None if text is None else Decimal(text) for text in (last, smallest, largest))
    start, end, counted_from, counted_until = counted_range
    return Total(
        Decimal(value), Decimal(total), count, last, Decimal(billable), customer, start, end, smallest, largest,
        dimensions or {}, (), counted_from, counted_until,
    )  # fmt: skip
