"""Customers: search their names, and whether they have usage on a meter."""

from ...domain.errors import CustomerWithoutUsage
from ...domain.rules_schedule import ALL_TIME
from ...domain.text import abbreviated_repr
from ..ledger.retry import retry_on_connection_loss
from ..similar_names import MAX_COMPARED_NAMES, suggest_names
from ..validation import MAX_CUSTOMER_LENGTH, require_int, require_text
from .meter_query import MeterQueryFactory, OpenMeter


class CustomerQueries:
    """The customers with usage: `metering.customers`."""

    def __init__(self, meter_queries: MeterQueryFactory) -> None:
        self._meter_queries = meter_queries

    @retry_on_connection_loss
    def search(self, text: str = "", *, limit: int = 10) -> list[str]:
        """Return up to `limit` (1 to 1,000) customers whose names contain `text`: those that start with it first.

        Both are in the order of their code points. Inside of a name, ASCII letters match in either case. An empty text
        returns the first customers. Customers are those of all meters that were ever reported. Raises InvalidParameter.
        """
        text = "" if text == "" else require_text(text, "text", MAX_CUSTOMER_LENGTH)
        limit = require_int(limit, "limit", 1, 1_000)
        with self._meter_queries.session(accept_outdated_rules=True) as read_models:
            return list(read_models.find_customers(text, limit))


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
