"""Every refusal, with its stable code.

A refusal is data: a code that programs may match on, a sentence that says what was wrong and what to do,
and the field and value it is about. The codes are Stripe's where Stripe has one.
"""

from typing import ClassVar, NamedTuple


class TallybookError(Exception):
    """The base of all refusals; catch it to catch them all."""

    code: ClassVar[str] = "tallybook_error"

    def __init__(self, message: str, *, field: str | None = None, value: object = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.value = value

    def as_dict(self) -> dict[str, str | None]:
        """The refusal as plain data: code, message and field."""
        return {"code": self.code, "message": self.message, "field": self.field}


# --- meters ---------------------------------------------------------------------------------------


class NoMeter(TallybookError):
    """No meter has this event name."""

    code = "no_meter"


class ArchivedMeter(TallybookError):
    """The meter is inactive and takes no usage."""

    code = "archived_meter"


class MeterExists(TallybookError):
    """The event name belongs to a meter with other rules, for ever."""

    code = "meter_already_exists"


# --- reports of usage -----------------------------------------------------------------------------


class InvalidReport(TallybookError):
    """A report has an unknown, missing or mistyped field."""

    code = "invalid_report"


class InvalidIdentifier(TallybookError):
    """An identifier is not 1 to 100 characters of text."""

    code = "invalid_identifier"


class InvalidPayload(TallybookError):
    """A payload is not string keys to string values within the limits."""

    code = "payload_invalid"


class PayloadWithoutCustomer(TallybookError):
    """The payload lacks the meter's customer key, or holds an empty customer."""

    code = "payload_no_customer_defined"


class PayloadWithoutValue(TallybookError):
    """The payload lacks the meter's value key."""

    code = "payload_no_value_defined"


class PayloadWithoutDimension(TallybookError):
    """The payload lacks one of the meter's dimension keys."""

    code = "missing_dimension_payload_keys"


class InvalidValue(TallybookError):
    """The value is not plain decimal text."""

    code = "payload_invalid_value"


class TooManyDigits(TallybookError):
    """The value has more significant digits than the policy allows."""

    code = "meter_event_value_too_many_digits"


class InvalidTimestamp(TallybookError):
    """A time is not an aware datetime."""

    code = "invalid_timestamp"


class TimestampTooFarInPast(TallybookError):
    """The use happened longer ago than the policy allows."""

    code = "timestamp_too_far_in_past"


class TimestampInFuture(TallybookError):
    """The use is said to happen further ahead than the policy allows."""

    code = "timestamp_in_future"


class DuplicateMeterEvent(TallybookError):
    """The identifier is taken by a meter event with other content."""

    code = "duplicate_meter_event"


class NoMeterEvent(TallybookError):
    """No meter event is recorded under this identifier."""

    code = "no_meter_event"


class InvalidCancel(TallybookError):
    """Nothing can be cancelled: unknown identifier, another meter's event, or too late."""

    code = "invalid_cancel_configuration"


# --- questions ------------------------------------------------------------------------------------


class InvalidParameter(TallybookError):
    """An argument is out of its range or not one of its choices."""

    code = "parameter_invalid"


class InvalidTimeRange(TallybookError):
    """A range of time starts after it ends, or has a naive bound."""

    code = "invalid_time_range"


class UnknownTimezone(TallybookError):
    """A timezone is not in the IANA database."""

    code = "unknown_timezone"


class InvalidAsOf(TallybookError):
    """`as_of` is neither an aware datetime nor a position."""

    code = "invalid_as_of"


# --- closed periods -------------------------------------------------------------------------------


class PeriodNotOver(TallybookError):
    """The period has not ended yet, or its grace for late reports hasn't."""

    code = "period_not_over"


class PeriodOverlaps(TallybookError):
    """The period overlaps one of the customer's that is closed on this meter."""

    code = "period_overlaps"


class PeriodNotClosed(TallybookError):
    """No period with exactly these bounds is closed."""

    code = "period_not_closed"


# --- access keys ----------------------------------------------------------------------------------


class NoAccessKey(TallybookError):
    """No access key has this id."""

    code = "no_access_key"


class InvalidAccessKey(TallybookError):
    """An access key is malformed, unknown, wrong or revoked: it opens nothing."""

    code = "invalid_access_key"


# --- ledgers and files ----------------------------------------------------------------------------


class InvalidLedgerUrl(TallybookError):
    """A ledger URL is malformed or has an unknown scheme."""

    code = "invalid_ledger_url"


class NotALedger(TallybookError):
    """The file is something else than a Tallybook ledger."""

    code = "not_a_ledger"


class NewerSchema(TallybookError):
    """The file was written by a later Tallybook than this one."""

    code = "newer_schema"


class LedgerUnavailable(TallybookError):
    """The ledger can't be read or written now: locked, read-only, full or missing."""

    code = "ledger_unavailable"


class NotPermitted(TallybookError):
    """The database doesn't let this user do that: record, project or rebuild."""

    code = "not_permitted"


class LedgerDamaged(TallybookError):
    """A stored event isn't as it was written: it can't be read."""

    code = "ledger_damaged"


class ProjectionStopped(TallybookError):
    """The read models stop before an event that can't be folded."""

    code = "projection_stopped"

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message, field="position", value=position)
        self.position = position


class NoGeneration(TallybookError):
    """No generation of the read models has this number."""

    code = "no_generation"


class GenerationInUse(TallybookError):
    """The generation is live, or still building: it can't be dropped, or promoted."""

    code = "generation_in_use"


class RebuildRunning(TallybookError):
    """Another program is rebuilding, comparing or promoting read models now."""

    code = "rebuild_running"


class RulesMovedOn(TallybookError):
    """Rules that a generation would change were changed since it was built."""

    code = "rules_moved_on"


class RulesCannotRead(TallybookError):
    """Events that were recorded have payloads that the new rules can't read."""

    code = "rules_cannot_read"

    def __init__(self, message: str, uses: "tuple[UnreadableUse, ...]", count: int) -> None:
        super().__init__(message, field="rules", value=uses)
        self.uses = uses
        self.count = count


class UnreadableUse(NamedTuple):
    """A meter event that rules can't read, and the code and message of why."""

    position: int
    identifier: str
    event_name: str
    code: str
    message: str


class InvalidImportFile(TallybookError):
    """A file to import is not what it says, or a column is missing."""

    code = "invalid_import_file"


# --- seals ----------------------------------------------------------------------------------------


class InvalidSealFile(TallybookError):
    """A file of seals is missing, damaged, or not signed as it should be."""

    code = "invalid_seal_file"


class LedgerDiffersFromSeals(TallybookError):
    """The ledger no longer holds what was sealed."""

    code = "ledger_differs_from_seals"


class NotSealed(TallybookError):
    """What is to be proved was recorded after the last seal, or there is no such seal."""

    code = "not_sealed"


class InvalidProof(TallybookError):
    """A proof doesn't lead from what it is of to what was sealed."""

    code = "invalid_proof"


class InvalidKey(TallybookError):
    """A key to sign seals with, or to check them by, can't be used."""

    code = "invalid_key"
