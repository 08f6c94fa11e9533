"""Figures, times and rules in words, as people read them."""

from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...domain.rules import Rules
    from ..results import MeterEventView, MeterView


def number(figure: Decimal | int | None) -> str:
    """A figure with separators between its thousands, exact."""
    return "-" if figure is None else format(figure, ",f" if isinstance(figure, Decimal) else ",d")


def signed(figure: Decimal) -> str:
    """A difference: with its sign, also where it is positive."""
    return f"+{number(figure)}" if figure > 0 else number(figure)


def counted(things: int, one: str, many: str | None = None) -> str:
    """A number of things, in the singular or the plural; many of them end in s where not given."""
    return f"{number(things)} {one if things == 1 else many or f'{one}s'}"


def when(at: datetime, timezone: tzinfo | None = None) -> str:
    """A moment by the clocks of `timezone`, or in UTC with a Z."""
    shown = at.astimezone(timezone or UTC).replace(tzinfo=None).isoformat(sep=" ")
    return shown if timezone else f"{shown}Z"


def opening(start: datetime, window: str, timezone: tzinfo) -> str:
    """When a window begins, as exactly as its length needs; with its offset, as an hour can come twice in a night."""
    shape = {"year": "%Y", "month": "%Y-%m", "day": "%Y-%m-%d"}.get(window, "%Y-%m-%d %H:%M %Z")
    return start.astimezone(timezone).strftime(shape)


def counted_by(formula: str, window: str | None) -> str:
    """How a meter counts: its formula, and its window if it has one."""
    return f"{formula} per {window}" if window else str(formula)


def rules_in_words(rules: "Rules | MeterView") -> str:
    """How a meter counts, and out of which payload keys."""
    keys = ", ".join((rules.customer_key, rules.value_key, *rules.dimension_keys))
    return f"{counted_by(rules.formula, rules.event_time_window)} (keys: {keys})"


def because(reason: str | None, by: str | None) -> str:
    """Who asked for a cancel, and why, as the end of a sentence."""
    return (f" by {by}" if by else "") + (f": {reason}" if reason else "")


def verdict(event: "MeterEventView") -> str:
    """Whether a meter event counts, or why it doesn't."""
    if event.cancelled_at is not None:
        return f"cancelled {when(event.cancelled_at.replace(microsecond=0))}{because(event.reason, event.by)}"
    return f"overwritten by {event.overwritten_by}" if event.overwritten_by else str(event.verdict)
