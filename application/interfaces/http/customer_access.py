"""What an access key that is limited to some customers may do, for all operations in one place.

Such a key may only read, and only the operations named here. Every other operation refuses it. A meter that
finds the customer under another payload key than before, or than its source, is as missing as one that doesn't exist.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Any

from ....domain.errors import InvalidIdentifier, InvalidParameter, MeterEventNotFound
from .errors import ApiError, missing_object
from .ledgers import RequestContext
from .meter_visibility import is_visible_meter, require_visible_meter
from .object_ids import METER_EVENT_PREFIX, decode_id
from .operations import Operation
from .pagination import cursor_not_found


class CustomerRule(Enum):
    """How an operation is limited to customers."""

    NO_CUSTOMER_DATA = "its response has no data of customers"
    BY_PARAMETER = "its parameter `customer` must be one of the key's"
    BY_LIST = "it lists the key's customers alone, as `RequestContext.may_read` says"
    BY_OBJECT = "an object of another customer is as missing as one that doesn't exist"


RULES = {
    "create_embed_token": CustomerRule.BY_PARAMETER,
    "list_meters": CustomerRule.NO_CUSTOMER_DATA,
    "retrieve_meter": CustomerRule.NO_CUSTOMER_DATA,
    "list_event_summaries": CustomerRule.BY_PARAMETER,
    "retrieve_comparison": CustomerRule.BY_PARAMETER,
    "retrieve_explanation": CustomerRule.BY_PARAMETER,
    "retrieve_explanation_page": CustomerRule.BY_PARAMETER,
    "list_meter_events": CustomerRule.BY_PARAMETER,
    "list_totals": CustomerRule.BY_LIST,
    "retrieve_evidence": CustomerRule.BY_PARAMETER,
    "retrieve_meter_event": CustomerRule.BY_OBJECT,
}
"""The operations that a limited key may use, by name."""


def admits_limited_keys(operation: Operation) -> bool:
    """Return whether a key that is limited to customers may use an operation."""
    return operation.name in RULES


def run_operation(operation: Operation, context: RequestContext[Any]) -> Any:
    """Run an operation within what its access key may read. Raises ApiError."""
    if not context.access_key.customers:
        return operation.run(context)
    rule = RULES[operation.name]  # any other operation was refused at authentication
    require_visible_meter(operation, context)
    if rule is CustomerRule.BY_PARAMETER:
        _require_own_customer(context)
        _require_own_cursor(context)
    result = operation.run(context)
    may_read = all(map(context.may_read, _customers_in(result, rule)))
    if rule is CustomerRule.BY_OBJECT and not (may_read and is_visible_meter(context, result.event_name)):
        raise missing_object("meter event", context.path_parameters["id"])
    if not may_read:
        raise ApiError(500, "The response has data of other customers.", error_type="api_error")
    return result


def _require_own_customer(context: RequestContext[Any]) -> None:
    if not context.may_read(context.params.customer):
        raise ApiError(
            403,
            f"The provided key '{context.access_key.hint}' may only read some customers: send one as 'customer'.",
            code="more_permissions_required",
            param="customer",
        )


def _require_own_cursor(context: RequestContext[Any]) -> None:
    """Raise ApiError for a cursor that is a meter event of another customer, as if it didn't exist."""
    cursor = getattr(context.params, "starting_after", None)
    identifier = None if cursor is None else decode_id(METER_EVENT_PREFIX, cursor)
    if cursor is None or identifier is None:  # an invalid cursor is an error of the operation
        return
    try:
        event = context.ledger.metering.event(identifier, event_name=getattr(context.params, "event_name", None))
    except (MeterEventNotFound, InvalidIdentifier, InvalidParameter):
        return
    if not context.may_read(event.customer):
        raise cursor_not_found("starting_after", cursor)


def _customers_in(result: Any, rule: CustomerRule) -> Iterable[str | None]:
    """Return the customers of the objects in a result."""
    match rule:
        case CustomerRule.BY_OBJECT:
            return [result.customer]
        case CustomerRule.BY_LIST:
            return [item.customer for item in result.data]
        case _:
            return ()
