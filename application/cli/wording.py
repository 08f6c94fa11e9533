"""Figures, times and rules in words, as people read them."""

from datetime import UTC, datetime, tzinfo
from decimal import Decimal


def number(figure: Decimal | int | None) -> str:
    """A figure with separators between its thousands, exact."""
    return "-" if figure is None else format(figure, ",f" if isinstance(figure, Decimal) else ",d")


def when(at: datetime, timezone: tzinfo | None = None) -> str:
    """A moment by the clocks of `timezone`, or in UTC with a Z."""
    shown = at.astimezone(timezone or UTC).replace(tzinfo=None).isoformat(sep=" ")
    return shown if timezone else f"{shown}Z"


def counted_by(formula: str, window: str | None) -> str:
    """How a meter counts: its formula, and its window if it has one."""
    return f"{formula} per {window}" if window else str(formula)


def because(reason: str | None, by: str | None) -> str:
    """Who asked for a cancel, and why, as the end of a sentence."""
    return (f" by {by}" if by else "") + (f": {reason}" if reason else "")
