"""Errors of closing and reopening periods, and of billing runs."""

from .base import Conflict, InvalidRequest, NotFound


class PeriodNotEnded(InvalidRequest):
    """The period, or the grace period for late meter events after it, has not ended yet."""

    code = "period_not_ended"


class PeriodOverlaps(Conflict):
    """The period overlaps a closed period of the customer on this meter."""

    code = "period_overlaps"
    http_status = 400  # a 409 would be retried by SDKs


class PeriodNotClosed(NotFound):
    """No closed period has exactly these bounds."""

    code = "period_not_closed"
    http_status = 400


class AdjustmentNotFound(NotFound):
    """Nothing is owed on the closed period as of the position: there is nothing to settle."""

    code = "adjustment_not_found"
    http_status = 400


class SettlementExists(Conflict):
    """The document settled the period as of another position already."""

    code = "settlement_exists"
    http_status = 400


class PeriodSettled(Conflict):
    """Adjustments of the closed period were settled: reopening it withdraws these documents too."""

    code = "period_settled"
    http_status = 400


class CustomerWithoutUsage(NotFound):
    """The customer of a period to close never had usage on this meter."""

    code = "customer_without_usage"
    http_status = 400


class BillingRunInProgress(Conflict):
    """A billing run of this period was started with other arguments, and is not closed yet."""

    code = "billing_run_in_progress"
    http_status = 400  # a 409 would be retried by SDKs
