"""A meter event as a caller submits it, and its validation."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta

from .decimals import to_plain_string
from .errors import InvalidIdentifier, InvalidMeterEvent, InvalidPayload, InvalidTimestamp, TallybookError
from .plain_types import plain_datetime, plain_decimal, plain_int, plain_text
from .text import abbreviated_repr, is_storable, is_valid_unicode
from .timestamps import ensure_utc

MAX_IDENTIFIER_LENGTH = MAX_KEY_LENGTH = 100
MAX_PAYLOAD_KEYS, MAX_VALUE_LENGTH = 50, 5_000
Identifier = Annotated[str, Meta(min_length=1, max_length=MAX_IDENTIFIER_LENGTH)]
PayloadKey = Annotated[str, Meta(min_length=1, max_length=MAX_KEY_LENGTH)]
PayloadValue = Annotated[str, Meta(max_length=MAX_VALUE_LENGTH)]


class MeterEventInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A meter event to record.

    `identifier` is its idempotency key, 1 to 100 characters; one is generated if it is None. `payload` maps up to 50
    keys of at most 100 characters to text values of at most 5,000 characters. `timestamp` is when the usage occurred,
    an aware datetime; None means the time of recording.

    It is a msgspec struct, because validating one takes a fifth of the time of a pydantic model.
    """

    event_name: str
    payload: Annotated[dict[PayloadKey, PayloadValue], Meta(max_length=MAX_PAYLOAD_KEYS)]
    identifier: Identifier | None = None
    timestamp: Annotated[datetime, Meta(tz=True)] | None = None


class CheckedMeterEventInput(MeterEventInput, frozen=True, gc=False):
    """A meter event whose fields the code that creates it has checked, as `parse_meter_event` does.

    All its text is plain and can be stored, and its timestamp is in UTC.
    """


def parse_meter_event(raw: object) -> MeterEventInput:
    """Return the validated input from `raw`: a MeterEventInput, a mapping, or an object with these attributes.

    Its texts and its timestamp are plain values, and the timestamp is in UTC. Raises InvalidIdentifier, InvalidPayload,
    InvalidTimestamp or InvalidMeterEvent, with the field.
    """
    if type(raw) is CheckedMeterEventInput:
        return raw
    is_dict = isinstance(raw, dict)
    if not is_dict and isinstance(raw, MeterEventInput):
        # msgspec doesn't validate a struct that Python code creates.
        is_dict, raw = True, msgspec.structs.asdict(raw)
    try:
        # A dict is converted without the keyword argument, which takes msgspec as long as the conversion itself.
        event_input = _convert(raw, MeterEventInput) if is_dict else _convert_attributes(raw)
    except (msgspec.ValidationError, TypeError, UnicodeError):
        event_input = _convert_plain_fields(raw)
    if _is_plain_ascii(event_input):
        return event_input
    if not _has_plain_text(event_input):
        event_input = _convert_plain_fields(raw)
    _check_text(event_input)
    timestamp = None if event_input.timestamp is None else ensure_utc(event_input.timestamp, "timestamp")
    return msgspec.structs.replace(event_input, timestamp=timestamp)


_convert = msgspec.convert


def _convert_attributes(raw: object) -> MeterEventInput:
    return msgspec.convert(raw, MeterEventInput, from_attributes=True)


def _is_plain_ascii(event_input: MeterEventInput) -> bool:
    """Return whether all text is plain, ASCII and without NUL, and the timestamp is in UTC: almost always.

    msgspec accepts text of subclasses as it is, and datetimes in any timezone.
    """
    event_name, payload = event_input.event_name, event_input.payload
    identifier, timestamp = event_input.identifier, event_input.timestamp
    if type(event_name) is not str or not event_name.isascii() or "\0" in event_name:
        return False
    if identifier is not None and (type(identifier) is not str or not identifier.isascii() or "\0" in identifier):
        return False
    for key, value in payload.items():
        if type(key) is not str or type(value) is not str or not key.isascii() or not value.isascii():
            return False
    return timestamp is None or timestamp.tzinfo is UTC


def _has_plain_text(event_input: MeterEventInput) -> bool:
    texts = (event_input.event_name, event_input.identifier or "", *event_input.payload, *event_input.payload.values())
    return all(type(text) is str for text in texts)


def _convert_plain_fields(raw: object) -> MeterEventInput:
    """Return the input of a meter event with values of other types than msgspec accepts, or raise the error."""
    fields = _plain_fields(raw) if _has_input_fields(raw) else raw
    try:
        return _convert(fields, MeterEventInput)
    except (msgspec.ValidationError, TypeError, UnicodeError) as error:
        raise _validation_error(fields, str(error)) from None


def _plain_fields(raw: object) -> dict[object, object]:
    """Return the fields with plain values, and the numbers in the payload as text.

    A float is not accepted, because its digits are not those the caller wrote, nor is a bool.
    """
    if isinstance(raw, Mapping):
        fields = {_plain_text_or(field): value for field, value in cast(Mapping[object, object], raw).items()}
    else:
        fields = {field: getattr(raw, field) for field in _FIELD_TYPES if hasattr(raw, field)}
    payload, timestamp = fields.get("payload"), fields.get("timestamp")
    if isinstance(payload, Mapping):
        fields["payload"] = _plain_payload(cast(Mapping[object, object], payload))
    if isinstance(timestamp, datetime):
        fields["timestamp"] = plain_datetime(timestamp) or timestamp
    return {field: _plain_text_or(value) for field, value in fields.items()}


def _plain_payload(payload: Mapping[object, object]) -> dict[object, object]:
    plain = {_plain_text_or(key): _payload_text_or(value) for key, value in payload.items()}
    if len(plain) < len(payload):
        raise InvalidPayload("'payload' has two keys with the same text.", field="payload", value=payload)
    return plain


def _plain_text_or(value: object) -> object:
    """Return text as plain text, and any other value unchanged."""
    text = plain_text(value)
    return value if text is None else text


def _payload_text_or(value: object) -> object:
    """Return text and finite numbers as plain text, and any other value unchanged.

    So is a Decimal whose exponent alone makes its text too long: writing 1E+300000000 would take 600 MB.
    """
    number = plain_int(value)
    if number is None:
        decimal = plain_decimal(value)
        if decimal is None or not decimal.is_finite() or abs(decimal.adjusted()) > MAX_VALUE_LENGTH:
            return _plain_text_or(value)
        return to_plain_string(decimal)
    try:
        return str(number)
    except ValueError:  # Python writes no int of more than 4,300 digits
        return number


def _check_text(event_input: MeterEventInput) -> None:
    """Raise an error if some text can't be stored."""
    if not is_storable(event_input.event_name):
        raise InvalidMeterEvent(
            f"'event_name' contains a character that can't be stored: {abbreviated_repr(event_input.event_name)}.",
            field="event_name",
            value=event_input.event_name,
        )
    if event_input.identifier is not None and not is_storable(event_input.identifier):
        raise InvalidIdentifier(
            f"'identifier' contains a character that can't be stored: {abbreviated_repr(event_input.identifier)}.",
            field="identifier",
            value=event_input.identifier,
        )
    for key, value in event_input.payload.items():
        if not is_valid_unicode(key + value):
            raise InvalidPayload(
                f"'payload' contains text that isn't valid Unicode: {abbreviated_repr(key)}: "
                f"{abbreviated_repr(value)}.",
                field=f"payload.{key}" if is_valid_unicode(key) else "payload",
                value=value,
            )


def _validation_error(raw: object, message: str) -> TallybookError:
    if not _has_input_fields(raw):
        return InvalidMeterEvent(
            "A meter event is a mapping or an object with event_name, payload, identifier and timestamp, "
            f"not {abbreviated_repr(raw)}.",
            field="meter_event",
            value=raw,
        )
    for field in ("event_name", "identifier", "payload", "timestamp"):
        value = _field(raw, field)
        try:
            msgspec.convert(value, _FIELD_TYPES[field])
        except (msgspec.ValidationError, UnicodeError) as error:
            if isinstance(value, datetime) and field == "timestamp":
                ensure_utc(value, field)  # raises an error that says what is missing
            if field == "payload" and isinstance(value, Mapping):
                return _payload_error(cast(Mapping[Any, Any], value), str(error))
            return _FIELD_ERRORS[field](
                f"{field!r} can't be {abbreviated_repr(value)}: {error}.", field=field, value=value
            )
    return InvalidMeterEvent(
        f"The meter event is invalid: {message}, in {abbreviated_repr(raw)}.", field="meter_event", value=raw
    )


def _has_input_fields(raw: object) -> bool:
    return isinstance(raw, Mapping) or any(hasattr(raw, field) for field in _FIELD_TYPES)


def _payload_error(payload: Mapping[Any, Any], message: str) -> TallybookError:
    for key, value in payload.items():
        try:
            msgspec.convert({key: value}, _FIELD_TYPES["payload"])
        except (msgspec.ValidationError, UnicodeError):
            return InvalidPayload(
                f"'payload' must map keys of 1 to 100 characters to text of at most 5,000 characters, int or Decimal, "
                f"not {abbreviated_repr(key)}: {abbreviated_repr(value)}.",
                field=f"payload.{key}",
                value=value,
            )
    return InvalidPayload(f"'payload': {message}.", field="payload", value=payload)


def _field(raw: object, field: str) -> object:
    if isinstance(raw, Mapping):
        return cast(Mapping[str, object], raw).get(field)
    return getattr(raw, field, None)


_FIELD_TYPES = {field.name: field.type for field in msgspec.structs.fields(MeterEventInput)}
_FIELD_ERRORS: Mapping[str, type[TallybookError]] = {
    "event_name": InvalidMeterEvent,
    "identifier": InvalidIdentifier,
    "payload": InvalidPayload,
    "timestamp": InvalidTimestamp,
}
