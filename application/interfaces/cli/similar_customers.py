"""What the commands print for a customer without usage: similar names of customers that have some."""

from typing import TYPE_CHECKING

from .session import Session
from .terminal import say

if TYPE_CHECKING:
    from datetime import datetime


def show_similar_customers(
    session: Session, event_name: str, customer: str | None, as_of: "datetime | int | None"
) -> None:
    """Print that a customer has no usage at all, with similar names of customers that have."""
    from ...similar_names import suggest_names  # noqa: PLC0415 - loads the domain

    if customer is None:
        return
    customers = _customers(session, event_name, as_of)
    if customer not in customers:
        say(f"There is no usage of {customer!r} on {event_name}.{suggest_names('customers', customer, customers)}")


def _customers(session: Session, event_name: str, as_of: "datetime | int | None") -> list[str]:
    """Return the customers with usage at any time, under any rules."""
    from ....domain.errors import RulesChangeInRange  # noqa: PLC0415 - loads the domain
    from ....domain.timestamps import MAX_DATETIME, MIN_DATETIME  # noqa: PLC0415 - loads the domain

    customers: dict[str, None] = {}
    start: datetime | None = MIN_DATETIME
    while start is not None:
        end, next_start = MAX_DATETIME, None
        try:
            totals = session.metering.totals(event_name, start, end, as_of=as_of)
        except RulesChangeInRange as error:
            next_start = error.changed_at
            totals = session.metering.totals(event_name, start, next_start, as_of=as_of)
        customers.update((total.customer, None) for total in totals if total.customer is not None)
        start = next_start
    return sorted(customers)
