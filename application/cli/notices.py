"""What commands say of meters, of one use, and of an import."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .terminal import say, table
from .wording import because, counted_by, number, when

if TYPE_CHECKING:
    from ...domain.meter_event import Cancellation
    from ..importing import ImportSummary
    from ..results import MeterView, Receipt


def show_meters(meters: Sequence["MeterView"]) -> None:
    """One line for each meter."""
    if not meters:
        say("No meters yet; 'tallybook meter configure' begins one.")
        return
    rows = [
        (one.event_name, one.display_name, counted_by(one.formula, one.event_time_window),
         ", ".join((one.customer_key, one.value_key, *one.dimension_keys)), one.status)
        for one in meters
    ]  # fmt: skip
    table(("meter", "name", "formula", "payload keys", "status"), rows)


def show_meter(meter: "MeterView") -> None:
    """A meter and its rules, line by line."""
    lines = {
        "name": meter.display_name,
        "status": meter.status + (f" since {when(meter.deactivated_at)}" if meter.deactivated_at else ""),
        "formula": counted_by(meter.formula, meter.event_time_window),
        "customer key": meter.customer_key,
        "value key": meter.value_key,
        "dimension keys": ", ".join(meter.dimension_keys) or "none",
        "configured": when(meter.created_at),
    }
    say(meter.event_name)
    for name, value in lines.items():
        say(f"  {name:<16}{value}")


def show_receipt(receipt: "Receipt") -> None:
    """What became of a report."""
    if receipt.outcome == "accepted":
        say(f"accepted: {receipt.identifier} is recorded at position {receipt.position}")
    else:
        say(f"duplicate: {receipt.identifier} was recorded before, at position {receipt.position}; it counts once")


def show_cancellation(cancellation: "Cancellation") -> None:
    """How a meter event came to count no more."""
    why = because(cancellation.reason, cancellation.by)
    say(f"cancelled: {cancellation.identifier} counts no more since {when(cancellation.cancelled_at)}{why}")


def show_import(summary: "ImportSummary") -> None:
    """What became of the rows, and the first that were refused."""
    rate = f"{summary.rows / summary.seconds:,.0f} rows/s" if summary.seconds else "no time"
    say(f"{summary.file}: {number(summary.rows)} rows in {summary.seconds:.1f} s ({rate})")
    for outcome in ("accepted", "duplicate", "conflict", "rejected"):
        say(f"  {outcome:<12}{number(getattr(summary, outcome)):>12}")
    for one in summary.refusals:
        say(f"line {one.line}: {one.outcome}, {one.error.code}: {one.error.message}")
    if summary.refused > len(summary.refusals):
        say(f"and {number(summary.refused - len(summary.refusals))} more; --errors FILE writes them all to a file.")
    if summary.refused < summary.rows and summary.refused and summary.generated:
        say("Rows without an identifier are named after the whole file, and a corrected file is another:")
        say("correct the refused rows in a file of their own, or the others would count twice.")
