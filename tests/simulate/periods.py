"""Operations on periods: close and reopen."""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from tallybook.application import ClosedPeriod, Metering

from ..properties.naive import counted_range
from .model import GRACE, Bounds, LedgerModel, Row, bounds_of, counted_range_of
from .outcomes import OperationResult
from .rules import Rules


@dataclass(frozen=True)
class Close:
    """Closes a customer's period and freezes its totals."""

    event_name: str
    customer: str
    bounds: Bounds

    def __str__(self) -> str:
        return f"close {self.event_name!r:.20} {self.customer!r:.12} {format_bounds(self.bounds)}"

    def run(self, metering: Metering) -> ClosedPeriod:
        """Close the period."""
        return metering.periods.close(self.event_name, self.customer, *self.bounds, allow_empty=True)

    def check(self, result: OperationResult) -> None:
        """Check that the totals are those at the stored position, and that a closed period is returned unchanged."""
        allowed = {self._expected_outcome(result.model, head, now) for head, now in result.visible_states}
        if result.written_rows:
            row = result.written_rows[0]
            expected = self._expected_outcome(result.model, row.position - 1, row.recorded_at)
            result.expect(
                expected == "closed" and len(result.written_rows) == 1,
                "closed, but must be rejected",
                answer=expected,
                row=row,
            )
            self._check_totals(result, row)
        if result.was_interrupted or result.was_locked_out:
            return
        if result.error is not None:
            result.expect_error(allowed - {"closed", "closed before"})
            return
        result.expect(
            result.written_rows or "closed before" in allowed, "closed, but no row was written", allowed=allowed
        )
        rows = result.model.rows_of("PeriodClosed", until=result.model.head)
        result.expect(
            any(matches_row(result.value, row) for row in rows), "the result is another closing", context=result.value
        )

    def _check_totals(self, result: OperationResult, row: Row) -> None:
        fields, model = row.fields, result.model
        counted = self._counted_range(model, row.position - 1, row.fields["position"])
        result.expect(counted_range_of(row) == counted, "an unexpected range is counted", row=row, expected=counted)
        rules = self._rules(model, row.position - 1, fields["position"])
        result.expect(Rules.from_fields(fields["rules"]) == rules, "closed under other rules", row=row, expected=rules)
        query = (self.event_name, self.customer, counted, fields["position"], rules)
        result.expect(
            fields["position"] in result.heads, "the frozen totals are of a position outside the operation", row=row
        )
        totals = model.totals(*query, exact=True)
        stored_totals = {
            name: None if fields[name] is None else Fraction(fields[name]) for name in ("sum", "count", "last")
        }
        expected_totals = {"sum": totals.sum, "count": totals.count, "last": totals.last}
        result.expect(
            stored_totals == expected_totals, "unexpected totals are frozen", row=row, expected=expected_totals
        )
        quantity = model.quantity(*query, exact=True)
        frozen = Fraction(fields["quantity"]), Fraction(fields["billable"]), fields["digest"], bounds_of(row)
        expected = quantity, max(quantity, Fraction(0)), model.digest(*query, exact=True), self.bounds
        result.expect(frozen == expected, "unexpected frozen quantity", frozen=frozen, expected=expected)

    def _expected_outcome(self, model: LedgerModel, head: int, now: datetime) -> str:
        if self.event_name not in model.meters(head):
            return "no_meter"
        closed_bounds = [bounds_of(row) for row in model.closed_rows(self.event_name, self.customer, head)]
        if self.bounds in closed_bounds:
            return "closed before"
        counted_from, counted_until = self._counted_range(model, head, head)
        if counted_from >= counted_until:
            return "invalid_time_range"
        if now - max(self.bounds[1], counted_until) < GRACE:
            return "period_not_ended"
        is_overlapping = any(start < self.bounds[1] and self.bounds[0] < end for start, end in closed_bounds)
        return "period_overlaps" if is_overlapping else "closed"

    def _counted_range(self, model: LedgerModel, closed_until: int, position: int) -> Bounds:
        """Return the range of the usage in a closing under the rules at a position."""
        rows = model.closed_rows(self.event_name, self.customer, closed_until)
        window = self._rules(model, closed_until, position).event_time_window
        return counted_range(self.bounds, window, [(bounds_of(row), counted_range_of(row)) for row in rows])

    def _rules(self, model: LedgerModel, closed_until: int, position: int) -> Rules:
        return model.closing_rules(self.event_name, self.customer, self.bounds, closed_until, position)


@dataclass(frozen=True)
class Reopen:
    """Reopens a closed period, so that it can be closed again."""

    event_name: str
    customer: str
    bounds: Bounds

    def __str__(self) -> str:
        return f"reopen {self.event_name!r:.20} {self.customer!r:.12} {format_bounds(self.bounds)}"

    def run(self, metering: Metering) -> ClosedPeriod:
        """Reopen the period."""
        return metering.periods.reopen(self.event_name, self.customer, *self.bounds, reason="a test")

    def check(self, result: OperationResult) -> None:
        """Check that only a closed period can be reopened."""
        allowed = {self._expected_outcome(result.model, head) for head in result.heads}
        if result.written_rows:
            expected = self._expected_outcome(result.model, result.written_rows[0].position - 1)
            result.expect(expected == "reopened", "reopened, but wasn't closed", written=result.written_rows)
            result.expect_rows({"topic": "PeriodReopened", "event_name": self.event_name, "customer": self.customer})
            result.expect(
                bounds_of(result.written_rows[0]) == self.bounds,
                "an unexpected row was written",
                written=result.written_rows,
            )
        if result.was_interrupted:
            return
        if result.error is not None:
            result.expect_error(allowed - {"reopened"})
        else:
            result.expect(result.written_rows, "reopened, but no row was written", allowed=allowed)

    def _expected_outcome(self, model: LedgerModel, head: int) -> str:
        if self.event_name not in model.meters(head):
            return "no_meter"
        closed_bounds = [bounds_of(row) for row in model.closed_rows(self.event_name, self.customer, head)]
        return "reopened" if self.bounds in closed_bounds else "period_not_closed"


def format_bounds(bounds: Bounds) -> str:
    """Return the bounds as short text."""
    return f"{bounds[0]:%d %H:%M} to {bounds[1]:%d %H:%M}"


def matches_row(period: ClosedPeriod, row: Row) -> bool:
    """Return whether a closed period has the values of its stored row."""
    totals = period.model_dump(
        mode="json", include={"event_name", "customer", "sum", "count", "last", "quantity", "digest"}
    )
    named = {name: row.fields[name] for name in totals}
    return (totals, (period.start, period.end), period.closed_at, period.position) == (
        named, bounds_of(row), row.recorded_at, row.fields["position"],
    )  # fmt: skip
