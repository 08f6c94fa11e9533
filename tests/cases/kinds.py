"""What checks a case of each kind."""

from typing import Any, Protocol

from .billing_cycles import check_period_bounds, check_timezone_change
from .close_sequences import check_close_sequence
from .lifecycles import check_lifecycle
from .peers import check_figures


class Check(Protocol):
    """Holds all that a stored case expects; raises ValidationError where it asks for something that isn't known."""

    def __call__(self, stored: dict[str, Any], *, in_one_batch: bool) -> None: ...


KINDS: dict[str, Check] = {
    "aggregate": check_figures,
    "close_sequence": check_close_sequence,
    "correction": check_figures,
    "lifecycle": check_lifecycle,
    "period_bounds": check_period_bounds,
    "timezone_change": check_timezone_change,
}


def check(stored: dict[str, Any], *, in_one_batch: bool) -> None:
    """Hold all that a stored case expects. A kind that isn't known is refused like any unknown word of a case."""
    KINDS.get(stored["kind"], check_figures)(stored, in_one_batch=in_one_batch)
