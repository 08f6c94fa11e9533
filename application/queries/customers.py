"""Which customers have usage on a meter."""

from ...domain.errors import CustomerWithoutUsage
from ...domain.schedule import ALL_TIME
from ...domain.text import abbreviated_repr
from ..similar_names import MAX_COMPARED_NAMES, suggest_names
from .meter_query import OpenMeter


def require_usage(meter: OpenMeter, customer: str) -> None:
    """Raise CustomerWithoutUsage, which names similar customers, if a customer never had usage on a meter."""
    view = meter.query(ALL_TIME).view
    customer_id = view.customer_id(customer)
    if customer_id is not None and view.time_span(customer_id) is not None:
        return
    names = meter.views.first_customers(MAX_COMPARED_NAMES)
    raise CustomerWithoutUsage(
        f"The customer {abbreviated_repr(customer)} never had usage on {meter.event_name!r}."
        f"{suggest_names('customers', customer, names)} Set allow_empty to close an empty period.",
        field="customer",
        value=customer,
    )
