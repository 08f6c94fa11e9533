"""All operations there are."""

from collections.abc import Sequence

from .resources import (
    adjustments,
    events,
    meter_events,
    meters,
    refused_events,
    stream,
    summaries,
    webhook_endpoints,
)
from .routes import Operation, Routes

ROUTES: Sequence[Routes] = (
    meters.routes,
    summaries.routes,
    meter_events.routes,
    adjustments.routes,
    stream.routes,
    refused_events.routes,
    events.routes,
    webhook_endpoints.routes,
)


def operations() -> list[Operation]:
    """All operations, in the order that they are documented in."""
    return [operation for routes in ROUTES for operation in routes]
