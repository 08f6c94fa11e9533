"""Finds the rules of the meters that rows name."""

from ...domain.errors import MeterNotFound
from ...domain.rules_schedule import RulesSchedule
from ..metering import Metering
from ..validation import require_event_name

_MAX_SUGGESTIONS = 20


class MeterLookup:
    """Returns the rules over time of the meters that rows name.

    The first names that no meter has are compared with those of all meters. Later ones are not: that takes
    milliseconds, and a file may have another name in each row.
    """

    def __init__(self, metering: Metering) -> None:
        self._metering = metering
        self._not_found = 0

    def schedule(self, event_name: str) -> RulesSchedule:
        """Return the rules over time of a meter. Raises MeterNotFound or InvalidParameter."""
        event_name, suggest = require_event_name(event_name), self._not_found < _MAX_SUGGESTIONS
        try:
            return self._metering.imports.ledger.meter(event_name, suggest=suggest).schedule
        except MeterNotFound:
            self._not_found += 1
            raise
