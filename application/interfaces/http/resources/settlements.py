"""Settlements: a credit note or an invoice has an adjustment, which is owed no longer."""

from datetime import datetime
from typing import NamedTuple

from .....domain.access_key import Scope
from .....domain.errors import AdjustmentNotFound, InvalidAsOf, MeterNotFound, PeriodNotClosed
from .....domain.timestamps import from_microseconds
from ..api_types import AsOfPosition, Parameters, Reason
from ..errors import ApiError, missing_object
from ..ledgers import RequestContext, ServedLedger
from ..object_ids import name_from_token
from ..operations import OperationRegistry
from .closed_period_ids import (
    PERIOD_ADJUSTMENT_PREFIX,
    ClosedPeriodKey,
    find_identified_period,
    iter_identified_periods,
    late_period_key,
)
from .closed_period_objects import BillingClosedPeriod, closed_period_object, identify
from .period_adjustment_objects import URL
from .period_adjustments import AdjustmentQuery, find_late_adjustment

operations = OperationRegistry("Settlements")
Document = Reason


class SettlePeriodAdjustment(Parameters, kw_only=True):
    """The number of the credit note or invoice, and the position of the ledger that it was made at, by default now.

    `by` is stored as `on_behalf_of`.
    """

    as_of_position: AsOfPosition | None = None
    by: Reason | None = None
    document: Document


@operations.post(URL + "/{id}/settle", Scope.CLOSE)
def settle_period_adjustment(context: RequestContext[SettlePeriodAdjustment]) -> BillingClosedPeriod:
    """Settle an adjustment: record that a credit note or an invoice has it, and return the closed period.

    What has changed since `as_of_position` stays owed. Settling again with the same document returns the first result.
    A customer without a closing gets the closing without usage that the adjustment is computed from.
    """
    params, ledger, object_id = context.params, context.ledger, context.path_parameters["id"]
    period = _find(ledger, object_id)
    if period is None:
        raise missing_object("period adjustment", object_id)
    try:
        settled = ledger.metering.periods.settle(
            period.event_name, period.customer, period.start, period.end, document=params.document,
            as_of=params.as_of_position, by=params.by,
        )  # fmt: skip
    except AdjustmentNotFound as error:
        raise ApiError(400, error.message, code=error.code, param="id") from error
    except InvalidAsOf as error:
        raise invalid_position(error) from error
    except (MeterNotFound, PeriodNotClosed):  # a customer without a closing that has no usage there
        raise missing_object("period adjustment", object_id) from None
    return closed_period_object(identify(ledger, settled), ledger)


def invalid_position(error: InvalidAsOf) -> ApiError:
    """Return the error that the ledger doesn't have the position of a settlement yet."""
    return ApiError(400, error.message, code=error.code, param="as_of_position")


class _Period(NamedTuple):
    """The period whose adjustment an id names."""

    event_name: str
    customer: str
    start: datetime
    end: datetime


def _find(ledger: ServedLedger, object_id: str) -> _Period | None:
    late = late_period_key(object_id)
    if late is not None:
        customer = name_from_token(late.customer_token) or _find_late_customer(ledger, late)
        bounds = from_microseconds(late.start), from_microseconds(late.end)
        return None if customer is None else _Period(late.event_name, customer, *bounds)
    identified = find_identified_period(ledger, object_id, prefix=PERIOD_ADJUSTMENT_PREFIX)
    if identified is None:
        return None
    period = identified.period
    if not period.is_closed:
        message = f"The period of the adjustment '{object_id}' is reopened."
        raise ApiError(400, message, code=PeriodNotClosed.code, param="id")
    return _Period(period.event_name, period.customer, period.start, period.end)


def _find_late_customer(ledger: ServedLedger, late: ClosedPeriodKey) -> str | None:
    """Return the customer whose long name an id contains the digest of, also once the adjustment is settled."""
    adjusted = find_late_adjustment(ledger, late, AdjustmentQuery())
    if adjusted is not None:
        return adjusted[0].period.customer
    bounds = from_microseconds(late.start), from_microseconds(late.end)
    try:
        closed = iter_identified_periods(ledger, late.event_name, None, bounds)
        return next((period.customer for key, period in closed if key[:-1] == late[:-1]), None)
    except MeterNotFound:
        return None
