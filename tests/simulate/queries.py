"""Queries of the ledger, each checked against the model's plain loops."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from tallybook.application import Adjustment, Explanation, Metering, Total

from ..properties.naive import ReferenceTotals
from .meters import matches_meter
from .model import Bounds, LedgerModel, Row, VerdictAndContribution, bounds_of, counted_range_of
from .outcomes import OperationResult
from .periods import matches_row
from .rules import Rules

Compare = Callable[[LedgerModel, int, Any], object]
"""Compares a result with the model at a position: returns a description of the difference, or None."""


@dataclass(frozen=True)
class Query:
    """A query. Its result must equal the model's at one moment between its start and its end, for the whole ledger."""

    description: str
    call: Callable[[Metering], Any]
    compare: Compare
    event_name: str | None = None

    def __str__(self) -> str:
        return f"ask {self.description}"

    def run(self, metering: Metering) -> Any:
        """Run the query."""
        return self.call(metering)

    def check(self, result: OperationResult) -> None:
        """Check that the result matches the model at one of the possible positions."""
        result.expect(not result.written_rows, "a query must not write rows", written=result.written_rows)
        if result.was_interrupted or result.was_locked_out:
            return
        if result.error is not None:
            is_missing = any(self.event_name not in result.model.meters(head) for head in result.heads)
            result.expect(self.event_name and is_missing and result.code == "no_meter", "rejected", code=result.code)
            return
        mismatches = [self.compare(result.model, head, result.value) for head in dict.fromkeys(result.heads)]
        result.expect(
            not all(mismatches),
            f"the result differs from the model: {self.description}",
            differences=mismatches,
            heads=result.heads,
        )


def _totals(total: Total) -> ReferenceTotals:
    values = (total.last, total.min, total.max)
    return ReferenceTotals(
        Fraction(total.sum), total.count, *(None if value is None else Fraction(value) for value in values)
    )


def _mismatch(actual: object, expected: object) -> object:
    return None if actual == expected else f"the result is {actual!r}, expected {expected!r}"


def total(meter: str, customer: str | None, bounds: Bounds, as_of: int | None = None) -> Query:
    """Return a query of one total, now or as of a position."""

    def compare(model: LedgerModel, head: int, actual: Total) -> object:
        until = head if as_of is None else min(as_of, head)
        expected = model.totals(meter, customer, bounds, until)
        quantity = model.quantity(meter, customer, bounds, until)
        actual_values = (*_totals(actual), Fraction(actual.value), Fraction(actual.billable))
        return _mismatch(actual_values, (*expected, quantity, max(quantity, Fraction(0))))

    return Query(
        f"total {meter!r:.20} {customer!r:.12} as of {as_of}",
        lambda metering: metering.total(meter, customer, *bounds, as_of=as_of), compare, meter,
    )  # fmt: skip


def totals(meter: str, bounds: Bounds, as_of: int | None = None) -> Query:
    """Return a query of the totals of all customers with effective usage."""

    def compare(model: LedgerModel, head: int, actual: Sequence[Total]) -> object:
        until = head if as_of is None else min(as_of, head)
        names = sorted({entry.customer for entry in model.counted(meter, until)})
        expected = [(name, model.totals(meter, name, bounds, until)) for name in names]
        with_usage = [(name, totals) for name, totals in expected if totals.count]
        return _mismatch([(total.customer, _totals(total)) for total in actual], with_usage)

    return Query(
        f"totals {meter!r:.20} as of {as_of}",
        lambda metering: metering.totals(meter, *bounds, as_of=as_of), compare, meter,
    )  # fmt: skip


def summaries(meter: str, customer: str | None, bounds: Bounds, window: str, timezone: str) -> Query:
    """Return a query of summaries: each has the total of its own window; windows neither overlap nor leave gaps."""

    def compare(model: LedgerModel, head: int, actual: Sequence[Total]) -> object:
        for summary in actual:
            mismatch = _mismatch(_totals(summary), model.totals(meter, customer, (summary.start, summary.end), head))
            if mismatch is not None:
                return mismatch
        if any(earlier.end > later.start for earlier, later in pairwise(actual)):
            return f"windows overlap: {actual}"
        return _mismatch(sum(summary.count for summary in actual), model.totals(meter, customer, bounds, head)[1])

    return Query(
        f"summaries {meter!r:.20} {customer!r:.12} by {window} of {timezone}",
        lambda metering: metering.summaries(meter, customer, *bounds, window=window, timezone=timezone), compare, meter,
    )  # fmt: skip


def explanation(meter: str, customer: str | None, bounds: Bounds, as_of: int | None = None) -> Query:
    """Return a query of the events of a total with their verdicts; the contributions must add up to the total."""

    def compare(model: LedgerModel, head: int, actual: Explanation) -> object:
        until = head if as_of is None else min(as_of, head)
        expected = model.verdicts(meter, customer, bounds, until)
        mismatch = {event.identifier: (str(event.verdict), Fraction(event.contribution)) for event in actual.events}
        added = sum((Fraction(event.contribution) for event in actual.events), start=Fraction(0))
        return (
            _mismatch(list(mismatch.items()), list(expected.items()))
            or _mismatch(_totals(actual.total), model.totals(meter, customer, bounds, until))
            or _mismatch(added, Fraction(actual.total.value))
            or _mismatch((actual.digest, actual.position), (model.digest(meter, customer, bounds, until), until))
        )

    return Query(
        f"explain {meter!r:.20} {customer!r:.12} as of {as_of}",
        lambda metering: metering.explain(meter, customer, *bounds, as_of=as_of), compare, meter,
    )  # fmt: skip


def events(meter: str) -> Query:
    """Return a query of all meter events of a meter: one for each row."""

    def compare(model: LedgerModel, head: int, actual: Sequence[Any]) -> object:
        rows = [row for row in model.rows_of("UsageRecorded", until=head) if row.fields["event_name"] == meter]
        mismatch = {event.identifier: (event.position, event.payload, event.recorded_at) for event in actual}
        return _mismatch(
            mismatch, {row.identifier: (row.position, row.fields["payload"], row.recorded_at) for row in rows}
        )

    return Query(f"events {meter!r:.20}", lambda metering: metering.events(meter, limit=10_000), compare, meter)


def meters() -> Query:
    """Return a query of all meters in their current state."""

    def compare(model: LedgerModel, head: int, actual: Sequence[Any]) -> object:
        expected = model.meters(head)
        is_equal = [meter.event_name for meter in actual] == sorted(expected) and all(
            matches_meter(meter, expected[meter.event_name]) for meter in actual
        )
        return None if is_equal else f"the result is {actual!r}, expected {expected!r}"

    return Query("meters", lambda metering: metering.meters.list(), compare)


def closed_periods(meter: str, as_of: int | None = None) -> Query:
    """Return a query of the periods that are closed at a position, with their frozen totals."""

    def compare(model: LedgerModel, head: int, actual: Sequence[Any]) -> object:
        until = head if as_of is None else min(as_of, head)
        rows = sorted(model.closed_rows(meter, None, until), key=lambda row: (row.fields["customer"], bounds_of(row)))
        is_equal = len(rows) == len(actual) and all(
            matches_row(period, row) for period, row in zip(actual, rows, strict=True)
        )
        return None if is_equal else f"the result is {actual!r}, expected {rows!r}"

    return Query(
        f"closed periods {meter!r:.20} as of {as_of}",
        lambda metering: metering.periods.list(meter, as_of=as_of), compare, meter,
    )  # fmt: skip


def adjustments(meter: str) -> Query:
    """Return a query of adjustments: frozen and current totals, and every event behind the difference.

    An adjustment of a late customer overlaps no closing of the customer, and all of its events were recorded later.
    """

    def compare(model: LedgerModel, head: int, actual: Sequence[Adjustment]) -> object:
        by_period = {
            (adjustment.period.customer, (adjustment.period.start, adjustment.period.end)): adjustment
            for adjustment in actual
            if not adjustment.is_late
        }
        for late in (adjustment for adjustment in actual if adjustment.is_late):
            period = late.period
            closed = [bounds_of(row) for row in model.closed_rows(meter, period.customer, head)]
            overlaps = any(start < period.end and period.start < end for start, end in closed)
            if overlaps or period.quantity or any(event.before == "counted" for event in late.events):
                return f"the customer of {late!r} is not late"
        for row in model.closed_rows(meter, None, head):
            mismatch = _compare_adjustment(
                model, head, row, by_period.pop((row.fields["customer"], bounds_of(row)), None)
            )
            if mismatch is not None:
                return mismatch
        return f"adjustments of periods that are not closed: {by_period!r}" if by_period else None

    return Query(f"adjustments {meter!r:.20}", lambda metering: metering.periods.adjustments(meter), compare, meter)


def _compare_adjustment(model: LedgerModel, head: int, row: Row, adjustment: Adjustment | None) -> object:
    """Return the difference of a closing's adjustment from the model, under the rules in force at the closing."""
    fields, counted = row.fields, counted_range_of(row)
    meter, customer = fields["event_name"], fields["customer"]
    rules = Rules.from_fields(fields["rules"])
    before = model.verdicts(meter, customer, counted, fields["position"], rules, exact=True)
    now = model.verdicts(meter, customer, counted, head, rules, exact=True)
    expected_total = model.quantity(meter, customer, counted, head, rules, exact=True)
    by_rules = Fraction(0)
    if rules != model.rules(meter, head):
        by_rules = model.quantity(meter, customer, counted, head, exact=True) - expected_total
    touched = {name for name, stood in now.items() if before.get(name) != stood}
    if adjustment is None:
        return _mismatch(None, (touched, by_rules)) if touched or by_rules else None
    frozen = Fraction(fields["quantity"])
    return (
        _mismatch(Fraction(adjustment.quantity), expected_total)
        or _mismatch(Fraction(adjustment.difference), expected_total - frozen)
        or _mismatch(
            Fraction(adjustment.billable_difference), max(expected_total, Fraction(0)) - Fraction(fields["billable"])
        )
        or _mismatch(Fraction(adjustment.rules_difference), by_rules)
        or _mismatch(
            {event.identifier: _change_of(event) for event in adjustment.events}, _changes(before, now, touched)
        )
    )


def _change_of(event: Any) -> tuple[str | None, str, Fraction]:
    return None if event.before is None else str(event.before), str(event.verdict), Fraction(event.change)


def _changes(
    before: Mapping[str, VerdictAndContribution], now: Mapping[str, VerdictAndContribution], touched: set[str]
) -> dict[str, tuple[str | None, str, Fraction]]:
    no_change = None, Fraction(0)
    return {
        name: (before.get(name, no_change)[0], now[name][0], now[name][1] - before.get(name, no_change)[1])
        for name in touched
    }


def verify() -> Query:
    """Return a query that compares the read models and the closed periods with a replay."""

    def compare(_: LedgerModel, __: int, actual: Any) -> object:
        differing = [f"{table.table}: {table.difference}" for table in actual.tables if not table.is_equal]
        return None if actual.is_equal else f"{differing or actual.differing_periods} differ from a replay"

    return Query("verify", lambda metering: metering.verify(), compare)


def catch_up() -> Query:
    """Return a query that brings the read models to the head."""
    return Query("catch up", lambda metering: metering.catch_up(), lambda _, head, actual: _mismatch(actual, head))
