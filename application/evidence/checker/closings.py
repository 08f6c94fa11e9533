"""Closings: totals of closed periods are compared with their closings, their settlements and the changes since."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Dict, List, Optional, Tuple

from .counting import NOTHING, Row, rows_behind, set_contributions, stated
from .signatures import Wrong
from .stored_events import Ledger

RowStates = Dict[int, Tuple[str, Fraction]]
"""The verdict and the contribution of each row, by its position."""
NOT_RECORDED: Tuple[Optional[str], Fraction] = (None, NOTHING)


def check_closing(
    name: str, ledger: Ledger, customer: str, total: Any, rows: List[Row], quantity: Fraction, billable: Fraction
) -> None:
    """Compare a total of the file `name` with the closing of its period, and with the settlements of this closing.

    A closed total has the frozen numbers. An adjusted one has what is owed since the last settlement.
    """
    at = total["closing_position"]
    closing, settlements = ledger.closing(at)
    expected = dict(closing)
    expected["counted_from"] = closing.get("counted_from") or closing["start"]
    expected["counted_until"] = closing.get("counted_until") or closing["end"]
    fields = ["start", "end", "counted_from", "counted_until", "rules", "revision"]
    if total["kind"] == "closed":
        fields += ["quantity", "billable", "sum", "count", "last", "position", "digest"]
    different = [field for field in fields if expected[field] != total[field]]
    if different or (closing["event_name"], closing["customer"]) != (total["meter"], customer):
        raise Wrong("%s: the closing at %s has another %s" % (name, at, different or "owner"))
    if total["settlement_position"] != (settlements[-1][0] if settlements else None):
        raise Wrong("%s: the closing at %s has another settlement" % (name, at))
    if total["kind"] == "adjusted":
        invoiced = settlements[-1][1] if settlements else closing
        roll = {part: stated(value) for part, value in total["roll_forward"].items()}
        differences = (quantity - Fraction(invoiced["quantity"]), billable - Fraction(invoiced["billable"]))
        parts = changes_since(ledger, customer, total, [closing, *(state for _, state in settlements)], rows)
        frozen = Fraction(closing["quantity"])
        parts.update(frozen=frozen, now=quantity, open=differences[0], settled=quantity - differences[0] - frozen)
        if (stated(total["difference"]), stated(total["billable_difference"])) != differences or any(
            roll[part] != value for part, value in parts.items()
        ):
            raise Wrong("%s: the adjustment of the closing at %s is wrong" % (name, at))


def changes_since(
    ledger: Ledger, customer: str, total: Any, invoices: List[Any], rows: List[Row]
) -> Dict[str, Fraction]:
    """Return by how much the rows have changed a total since its closing, by the kind of the change.

    The changes are those from each of the `invoices`, the closing and its settlements, to the next one, and then to
    the `rows` of now.
    """
    parts: Dict[str, Fraction] = dict.fromkeys(("late", "cancelled", "superseded", "restored", "recalculated"), NOTHING)
    before = rows_at(ledger, customer, total, invoices[0]["position"])
    for invoice in [*invoices[1:], None]:
        after = states_of(rows) if invoice is None else rows_at(ledger, customer, total, invoice["position"])
        for position, (verdict, contribution) in after.items():
            old_verdict, old_contribution = before.get(position, NOT_RECORDED)
            parts[kind_of_change(old_verdict, verdict)] += contribution - old_contribution
        before = after
    return parts


def rows_at(ledger: Ledger, customer: str, total: Any, position: int) -> RowStates:
    """Return the states of the rows behind a total as they were at a position."""
    rows, rules, _ = rows_behind(ledger, customer, dict(total, position=position))
    set_contributions(rows, rules)
    return states_of(rows)


def states_of(rows: List[Row]) -> RowStates:
    """Return the verdict and the contribution of each row."""
    return {row.position: (row.verdict, row.contribution) for row in rows}


def kind_of_change(before: Optional[str], now: str) -> str:
    """Return the kind of a change, given the verdicts of an event."""
    if before is None:
        return "late"
    if before == "counted":
        return now if now in ("cancelled", "superseded") else "recalculated"
    return "restored"
