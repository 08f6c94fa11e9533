"""Every error that Tallybook raises, in a tree by what the caller can do about it.

Catch a category (`InvalidRequest`, `NotFound`, `Conflict`, `PermissionDenied`, `Unavailable`, `Corrupted`) or a single
class. Each class has a stable `code`, which is Stripe's where Stripe has one, and the status of its HTTP response.
"""

from datetime import datetime
from typing import Any, ClassVar, NamedTuple, cast

from pydantic_core import CoreSchema, core_schema


class TallybookError(Exception):
    """The base class of all errors of Tallybook.

    `message` says what was wrong and what to do, `field` and `value` which argument it was.
    """

    code: ClassVar[str] = "tallybook_error"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, field: str | None = None, value: object = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.value = value

    def as_dict(self) -> dict[str, str | None]:
        """Return the error as plain data: code, message and field."""
        return {"code": self.code, "message": self.message, "field": self.field}

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: type[Any], _handler: object) -> CoreSchema:
        """Serialize the error as `as_dict` in results that pydantic or a web framework returns as JSON."""
        text = core_schema.str_schema()
        fields = core_schema.dict_schema(text, core_schema.nullable_schema(text))
        serialization = core_schema.plain_serializer_function_ser_schema(cls.as_dict, return_schema=fields)
        schema = core_schema.is_instance_schema(cls)
        return core_schema.json_or_python_schema(fields, schema, serialization=serialization)


# --- categories -----------------------------------------------------------------------------------


class InvalidRequest(TallybookError):
    """The call is wrong and fails each time: correct its arguments."""

    code = "invalid_request"
    http_status = 400


class NotFound(TallybookError):
    """No object has this name, identifier or number."""

    code = "not_found"
    http_status = 404


class Conflict(TallybookError):
    """The call contradicts what is stored or what another process is doing: read the present state first."""

    code = "conflict"
    http_status = 409


class PermissionDenied(TallybookError):
    """The access key or the database user does not have the permission."""

    code = "permission_denied"
    http_status = 403


class Unavailable(TallybookError):
    """The ledger cannot be used at the moment: retry."""

    code = "unavailable"
    http_status = 503


class Corrupted(TallybookError):
    """Stored data is not what Tallybook wrote: an operator has to look."""

    code = "corrupted"
    http_status = 500


# --- meters ---------------------------------------------------------------------------------------


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


# --- meter events ---------------------------------------------------------------------------------


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


# --- queries --------------------------------------------------------------------------------------


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


# --- closed periods -------------------------------------------------------------------------------


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


class CustomerWithoutUsage(NotFound):
    """The customer of a period to close never had usage on this meter."""

    code = "customer_without_usage"
    http_status = 400


class BillingRunInProgress(Conflict):
    """A billing run of this period was started with other arguments, and is not closed yet."""

    code = "billing_run_in_progress"
    http_status = 400  # a 409 would be retried by SDKs


# --- access keys ----------------------------------------------------------------------------------


class AccessKeyNotFound(NotFound):
    """No access key has this id."""

    code = "access_key_not_found"


class InvalidAccessKey(PermissionDenied):
    """The access key is malformed, unknown, wrong or revoked."""

    code = "invalid_access_key"
    http_status = 401


# --- ledgers and files ----------------------------------------------------------------------------


class InvalidLedgerUrl(InvalidRequest):
    """A ledger URL is malformed or has an unknown scheme."""

    code = "invalid_ledger_url"


class NotALedger(InvalidRequest):
    """The file exists and is not a Tallybook ledger."""

    code = "not_a_ledger"


class UnsupportedSchemaVersion(Corrupted):
    """A newer version of Tallybook wrote this file."""

    code = "unsupported_schema_version"


class LedgerUnavailable(Unavailable):
    """The ledger cannot be read or written at the moment: locked, read-only, full or missing."""

    code = "ledger_unavailable"


class DatabasePermissionDenied(PermissionDenied):
    """The database user may not do this: record, project or rebuild."""

    code = "database_permission_denied"
    http_status = 503  # nothing is wrong with the request: the operator has to grant it


class LedgerCorrupted(Corrupted):
    """A stored event is not as it was written and cannot be decoded."""

    code = "ledger_corrupted"


class ProjectionStopped(Corrupted):
    """The projection stopped at an event that it cannot fold."""

    code = "projection_stopped"

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message, field="position", value=position)
        self.position = position


class GenerationNotFound(NotFound):
    """No generation of the read models has this number."""

    code = "generation_not_found"


class GenerationInUse(Conflict):
    """The generation is live or still building: it cannot be dropped or promoted."""

    code = "generation_in_use"


class RebuildInProgress(Conflict):
    """Another process is rebuilding, comparing or promoting read models."""

    code = "rebuild_in_progress"


class PreviewChanged(Conflict):
    """What would change is no longer what was approved: the differences of a generation, or the events to cancel."""

    code = "preview_changed"


class RulesConflict(Conflict):
    """The rules of a meter were changed after the generation was built."""

    code = "rules_conflict"


class IncompatibleRules(InvalidRequest):
    """Recorded meter events have payloads that the new rules reject."""

    code = "incompatible_rules"

    def __init__(self, message: str, events: "tuple[IncompatibleEvent, ...]", count: int) -> None:
        super().__init__(message, field="rules", value=events)
        self.events = events
        self.count = count


class IncompatibleEvent(NamedTuple):
    """A recorded meter event that new rules reject, with the code and message of the error."""

    position: int
    identifier: str
    event_name: str
    code: str
    message: str


class InvalidImportFile(InvalidRequest):
    """A file to import has another format than its name says, or lacks a column."""

    code = "invalid_import_file"


class CancellationNotFound(NotFound):
    """No bulk cancellation has this id."""

    code = "cancellation_not_found"


class ImportRunNotFound(NotFound):
    """No import has this id."""

    code = "import_run_not_found"


# --- checkpoints ----------------------------------------------------------------------------------


class InvalidCheckpointFile(InvalidRequest):
    """A checkpoint file is missing, corrupted, or not signed by the expected key."""

    code = "invalid_checkpoint_file"


class CheckpointMismatch(Corrupted):
    """The ledger no longer contains the events that a checkpoint covers."""

    code = "checkpoint_mismatch"


class NotCheckpointed(NotFound):
    """The event was recorded after the last checkpoint, or there is no such checkpoint."""

    code = "not_checkpointed"


class InvalidProof(InvalidRequest):
    """The proof does not hold for this event and checkpoint."""

    code = "invalid_proof"


class InvalidSigningKey(InvalidRequest):
    """A key that signs or verifies checkpoints cannot be used."""

    code = "invalid_signing_key"
