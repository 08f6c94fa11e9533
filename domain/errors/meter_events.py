"""Errors of meter events: recording, cancelling and finding them."""

from .base import Conflict, InvalidRequest, NotFound


class InvalidMeterEvent(InvalidRequest):
    """A meter event has an unknown, missing or mistyped field."""

    code = "invalid_meter_event"


class InvalidIdentifier(InvalidRequest):
    """An identifier is not 1 to 100 characters of text."""

    code = "invalid_identifier"


class InvalidPayload(InvalidRequest):
    """A payload is not a mapping of strings to strings within the limits."""

    code = "payload_invalid"


class MissingCustomer(InvalidRequest):
    """The payload does not contain the meter's customer key, or the customer is empty."""

    code = "payload_no_customer_defined"


class MissingValue(InvalidRequest):
    """The payload does not contain the meter's value key."""

    code = "payload_no_value_defined"


class MissingDimension(InvalidRequest):
    """The payload does not contain one of the meter's dimension keys."""

    code = "missing_dimension_payload_keys"


class TooManyCombinations(InvalidRequest):
    """The customer or the meter has too many combinations of dimension values in the hour of the event."""

    code = "meter_event_dimension_count_too_high"


class InvalidValue(InvalidRequest):
    """The value is not a plain decimal number."""

    code = "payload_invalid_value"


class TooManyDigits(InvalidRequest):
    """The value has more significant digits than the policy allows."""

    code = "meter_event_value_too_many_digits"


class InvalidTimestamp(InvalidRequest):
    """A time is not a datetime with a timezone."""

    code = "invalid_timestamp"


class TimestampTooFarInPast(InvalidRequest):
    """The meter event occurred longer ago than the policy allows."""

    code = "timestamp_too_far_in_past"


class TimestampInFuture(InvalidRequest):
    """The timestamp is further in the future than the policy allows."""

    code = "timestamp_in_future"


class DuplicateMeterEvent(Conflict):
    """The identifier belongs to a meter event with different content."""

    code = "duplicate_meter_event"
    http_status = 400  # Stripe's


class MeterEventNotFound(NotFound):
    """No meter event is recorded under this identifier."""

    code = "meter_event_not_found"


class InvalidCancellation(InvalidRequest):
    """The meter event cannot be cancelled: unknown identifier, another meter, or too late."""

    code = "invalid_cancel_configuration"


class CancellationNotFound(NotFound):
    """No bulk cancellation has this id."""

    code = "cancellation_not_found"
