"""All operations there are."""

from collections.abc import Sequence

from .resources import (
    adjustments,
    closed_periods,
    events,
    explanations,
    meter_event_errors,
    meter_events,
    meters,
    period_adjustments,
    projection,
    recorded_events,
    rule_changes,
    stream,
    summaries,
    totals,
    verifications,
    webhook_endpoints,
)
from .routes import Operation, Routes

ROUTES: Sequence[Routes] = (
    meters.routes,
    summaries.routes,
    meter_events.routes,
    adjustments.routes,
    stream.routes,
    recorded_events.routes,
    meter_event_errors.routes,
    totals.routes,
    explanations.routes,
    closed_periods.routes,
    period_adjustments.routes,
    rule_changes.routes,
    projection.routes,
    verifications.routes,
    events.routes,
    webhook_endpoints.routes,
)


def operations() -> list[Operation]:
    """All operations, in the order that they are documented in."""
    return [operation for routes in ROUTES for operation in routes]
