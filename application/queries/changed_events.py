"""What has changed a total between two points of the ledger: meter events whose verdict is another one."""

from datetime import datetime
from itertools import islice

from ...domain.decimals import EXACT_CONTEXT
from ...domain.errors import InvalidAsOf
from ...projections.models import AsOf
from ...projections.usage_view import VerdictChange
from ..ledger.ledger import Ledger
from ..ledger.retry import retry_on_connection_loss
from ..results import ChangedEvent, TotalChange
from ..validation import optional_customer, require_int, require_time_range
from .dimension_query import Where, parse_dimensions
from .events import MAX_EVENTS_PER_PAGE, event_view_fields, verdict_for
from .meter_query import MeterQueryFactory
from .totals import TotalQueries


class ChangeQueries:
    """Compares a total as of two points of the ledger."""

    def __init__(self, ledger: Ledger, meter_queries: MeterQueryFactory, totals: TotalQueries) -> None:
        self._ledger = ledger
        self._meter_queries = meter_queries
        self._totals = totals

    @retry_on_connection_loss
    def compare(
        self,
        event_name: str,
        customer: str | None,
        start: datetime,
        end: datetime,
        since: datetime | int,
        as_of: datetime | int | None,
        where: Where | None,
        offset: int,
        limit: int,
    ) -> TotalChange:
        """Return a total as of two points, and a page of the events whose verdict differs between them."""
        (start, end, bounds), customer = require_time_range(start, end), optional_customer(customer)
        offset, limit = require_int(offset, "offset", 0, 2**31), require_int(limit, "limit", 0, MAX_EVENTS_PER_PAGE)
        earlier, later = self._meter_queries.as_of(since), self._meter_queries.as_of(as_of)
        if earlier is None:
            raise InvalidAsOf("'since' must be a position or a time.", field="since", value=since)
        with self._meter_queries.open(event_name, later and later.position) as meter:
            later = AsOf(meter.position)
            if earlier.position > later.position:
                raise InvalidAsOf(
                    f"'since' is position {earlier.position}, after 'as_of' at {later.position}. Exchange them.",
                    field="since",
                    value=since,
                )
            query = meter.query(bounds, parse_dimensions(where, ()))
            found = query.view.changes(query.customer_id(customer), *query.view.bounds, earlier, later)
            changes = [change for change in found if _is_changed(change)]
            page = list(islice(changes, offset, offset + limit))
            fields = event_view_fields(self._ledger, [change.now for change in page], query.view)
            events = tuple(
                ChangedEvent(*of_event, change.before and verdict_for(change.before))
                for change, of_event in zip(page, fields, strict=True)
            )
        before, after = (
            self._totals.total(event_name, customer, start, end, known.position, where, ())
            for known in (earlier, later)
        )
        difference = EXACT_CONTEXT.subtract(after.value, before.value)
        return TotalChange(before, after, difference, earlier.position, later.position, len(changes), events)


def _is_changed(change: VerdictChange) -> bool:
    """Return whether an event was recorded in between, or another verdict applies to it."""
    return change.before is None or verdict_for(change.before) is not verdict_for(change.now)
