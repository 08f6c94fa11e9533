"""Customers: search them by a part of their names."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ..api_types import ListObject, Parameters
from ..ledgers import RequestContext
from ..operations import OperationRegistry
from ..pagination import list_response

operations = OperationRegistry("Customers")
URL = "/v1/billing/customers/search"
MAX_LIMIT = 100


class FoundCustomer(msgspec.Struct, kw_only=True):
    """A customer with usage: the text under the customer key of its meter events."""

    object: Literal["billing.customer"] = "billing.customer"
    customer: str
    livemode: bool


class SearchCustomers(Parameters, kw_only=True):
    """The text that the names of the customers contain. Without it, the first customers are returned."""

    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT)] = 10
    query: Annotated[str, Meta(max_length=5_000)] = ""


@operations.get(URL)
def search_customers(context: RequestContext[SearchCustomers]) -> ListObject[FoundCustomer]:
    """Search customers by a part of their names.

    Those that start with the query come first, then those that contain it, where ASCII letters match in either case.
    """
    params, ledger = context.params, context.ledger
    customers = ledger.metering.customers.search(params.query, limit=params.limit + 1)
    data = [FoundCustomer(customer=customer, livemode=ledger.livemode) for customer in customers[: params.limit]]
    return list_response(data, URL, has_more=len(customers) > params.limit)
