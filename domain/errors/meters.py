"""Errors of meters: unknown, inactive, derived or existing."""

from .base import Conflict, InvalidRequest, NotFound


class MeterNotFound(NotFound):
    """No meter has this event name."""

    code = "no_meter"
    http_status = 400  # a parameter names the meter, and Stripe answers 400


class MeterInactive(InvalidRequest):
    """The meter is inactive and accepts no meter events."""

    code = "archived_meter"


class MeterIsDerived(InvalidRequest):
    """The meter counts the events of another meter: it records none, and no meter can be derived from it."""

    code = "derived_meter"


class MeterAlreadyExists(Conflict):
    """The event name belongs to a meter with other rules or another display name."""

    code = "meter_already_exists"
    http_status = 400  # Stripe's
