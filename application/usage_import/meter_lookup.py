"""Finds the meters that rows name."""

from ...domain.errors import MeterNotFound
from ..meter_views import MeterView
from ..metering import Metering

_MAX_SUGGESTIONS = 20


class MeterLookup:
    """Returns the meters that rows name. The first names that no meter has are compared with those of all meters.

    Later ones are not: that takes milliseconds, and a file may have another name in each row.
    """

    def __init__(self, metering: Metering) -> None:
        self._metering = metering
        self._not_found = 0

    def get(self, event_name: str) -> MeterView:
        """Return a meter. Raises MeterNotFound."""
        try:
            if self._not_found >= _MAX_SUGGESTIONS:
                self._metering.imports.ledger.meter(event_name, suggest=False)
            return self._metering.meters.get(event_name)
        except MeterNotFound:
            self._not_found += 1
            raise
