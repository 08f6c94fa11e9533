"""What was verified, as people read it."""

from typing import TYPE_CHECKING

from .terminal import say, table
from .wording import counted, number

if TYPE_CHECKING:
    from ..verifying import PeriodDifference, RowDifference, Verification

_SHORT = 12
"""Characters of a SHA-256 that are shown; JSON has them all."""


def show_verification(verification: "Verification") -> None:
    """Each table beside that of a fresh fold, the closed periods, and the first key that differs in each."""
    say(f"Generation {verification.generation}, up to position {number(verification.position)} of the ledger")
    rows = [
        (one.table, number(one.rows), one.digest[:_SHORT], one.expected_digest[:_SHORT], _verdict(one.is_equal))
        for one in verification.tables
    ]
    table(("table", "rows", "SHA-256", "of a fresh fold", ""), rows, right=("rows",))
    differing = len(verification.differing_periods)
    periods = counted(verification.closed_periods, "closed period")
    say(f"{periods}, {counted(differing, 'differs', 'differ') if differing else 'none differs'}")
    for one in verification.tables:
        if one.difference is not None:
            _show_row(one.difference)
    for one in verification.differing_periods:
        _show_period(one)
    if any(not one.is_equal for one in verification.tables):
        say()
        say("The ledger is the truth: 'tallybook projection rebuild' makes the read models again, to be promoted.")


def _verdict(is_equal: bool) -> str:
    return "equal" if is_equal else "DIFFERS"


def _show_row(difference: "RowDifference") -> None:
    say()
    say(f"{difference.table} differs first at {difference.key}")
    say(f"  found     {difference.found or 'no such row'}")
    say(f"  expected  {difference.expected or 'no such row'}")


def _show_period(difference: "PeriodDifference") -> None:
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    from .periods import in_words  # noqa: PLC0415 - loads the domain

    period, expected = difference.period, difference.expected
    say()
    name = in_words(period.start, period.end, ZoneInfo("UTC"))
    say(f"The closed period {name} (UTC) of {period.customer} on {period.event_name} differs")
    for said, figures in (("frozen", period), ("expected", expected)):
        events, digest = counted(figures.count, "event"), figures.digest[:_SHORT]
        say(f"  {said:<10}{number(figures.quantity)} of {events}, SHA-256 {digest}")
