"""All operations there are."""

from collections.abc import Sequence

from .resources import adjustments, meter_events, meters, stream, summaries
from .routes import Operation, Routes

ROUTES: Sequence[Routes] = (meters.routes, summaries.routes, meter_events.routes, adjustments.routes, stream.routes)


def operations() -> list[Operation]:
    """All operations, in the order that they are documented in."""
    return [operation for routes in ROUTES for operation in routes]
