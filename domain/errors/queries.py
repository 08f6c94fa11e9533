"""Errors of queries: their parameters, time ranges and `as_of`."""

from datetime import datetime
from typing import cast

from .base import InvalidRequest


class InvalidParameter(InvalidRequest):
    """An argument is out of range or not one of the choices."""

    code = "parameter_invalid"


class InvalidTimeRange(InvalidRequest):
    """A time range starts after it ends, a bound has no timezone, or the timezone skipped the range."""

    code = "invalid_time_range"


class UnknownTimezone(InvalidRequest):
    """A timezone is not in the IANA database."""

    code = "unknown_timezone"


class RulesChangeInRange(InvalidRequest):
    """The formula, multiplier or rounding of the meter changes inside the range, which has no single quantity then."""

    code = "rules_change_in_range"

    @property
    def changed_at(self) -> datetime:
        """When the rules change for the first time, in UTC: the `value` of the error."""
        return cast(datetime, self.value)


class InvalidEffectiveFrom(InvalidRequest):
    """A change of rules can't take effect then: an event time window of the old or the new rules contains that time."""

    code = "invalid_effective_from"


class InvalidAsOf(InvalidRequest):
    """`as_of` is neither a datetime with a timezone nor a position."""

    code = "invalid_as_of"
