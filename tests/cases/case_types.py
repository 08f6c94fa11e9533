"""The check of each kind of case."""

from typing import Any, Protocol

from .billing_cycles import check_period_bounds, check_timezone_change
from .close_sequences import check_close_sequence
from .lifecycles import check_lifecycle
from .vendor_cases import check_totals


class Check(Protocol):
    """Checks everything that a stored case expects; raises ValidationError for an unknown field or value."""

    def __call__(self, stored: dict[str, Any], *, in_one_batch: bool) -> None: ...


CASE_TYPES: dict[str, Check] = {
    "aggregate": check_totals,
    "close_sequence": check_close_sequence,
    "correction": check_totals,
    "lifecycle": check_lifecycle,
    "period_bounds": check_period_bounds,
    "timezone_change": check_timezone_change,
}


def check(stored: dict[str, Any], *, in_one_batch: bool) -> None:
    """Check everything that a stored case expects. Raises ValidationError for an unknown kind."""
    CASE_TYPES.get(stored["kind"], check_totals)(stored, in_one_batch=in_one_batch)
