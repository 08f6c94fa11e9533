"""A meter event as a caller submits it, and its validation."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta

from .decimals import to_plain_string
from .errors import InvalidIdentifier, InvalidMeterEvent, InvalidPayload, InvalidTimestamp, TallybookError
from .text import abbreviated_repr, is_storable, is_valid_unicode

Identifier = Annotated[str, Meta(min_length=1, max_length=100)]
PayloadKey = Annotated[str, Meta(min_length=1, max_length=100)]
PayloadValue = Annotated[str, Meta(max_length=5_000)]


class MeterEventInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A meter event to record.

    `identifier` is its idempotency key, 1 to 100 characters; one is generated if it is None. `payload` maps up to 50
    keys of at most 100 characters to text values of at most 5,000 characters. `timestamp` is when the usage occurred,
    an aware datetime; None means the time of recording.

    It is a msgspec struct, because validating one takes a fifth of the time of a pydantic model.
    """

    event_name: str
    payload: Annotated[dict[PayloadKey, PayloadValue], Meta(max_length=50)]
    identifier: Identifier | None = None
    timestamp: Annotated[datetime, Meta(tz=True)] | None = None


def parse_meter_event(raw: object) -> MeterEventInput:
    """Return the validated input from `raw`: a MeterEventInput, a mapping, or an object with these attributes.

    Raises InvalidIdentifier, InvalidPayload, InvalidTimestamp or InvalidMeterEvent, with the field.
    """
    source: object = raw
    if not isinstance(raw, dict) and isinstance(raw, MeterEventInput):
        # msgspec doesn't validate a struct that Python code creates.
        source = msgspec.structs.asdict(raw)
    try:
        event_input = _convert(source)
    except (msgspec.ValidationError, TypeError, UnicodeError) as error:
        event_input = _convert_numbers(source)
        if event_input is None:
            raise _validation_error(source, str(error)) from None
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
        if not (key + value).isascii() and not is_valid_unicode(key + value):
            raise InvalidPayload(
                f"'payload' contains text that isn't valid Unicode: {abbreviated_repr(key)}: "
                f"{abbreviated_repr(value)}.",
                field=f"payload.{key}" if is_valid_unicode(key) else "payload",
                value=value,
            )
    return event_input


def _convert(raw: object) -> MeterEventInput:
    # Convert a dict without the keyword argument, which takes msgspec as long as the conversion itself.
    if isinstance(raw, dict):
        return msgspec.convert(raw, MeterEventInput)
    return msgspec.convert(raw, MeterEventInput, from_attributes=True)


def _convert_numbers(raw: object) -> MeterEventInput | None:
    """Return the input with int and Decimal payload values as text; None if it is invalid for another reason.

    A float is not accepted, because its digits are not those the caller wrote, nor is a bool.
    """
    payload = _field(raw, "payload")
    if not isinstance(payload, Mapping):
        return None
    values = cast(Mapping[Any, Any], payload)
    fields = {field: value for field in _FIELD_TYPES if (value := _field(raw, field)) is not None}
    if isinstance(raw, Mapping):
        fields = {**cast(Mapping[str, object], raw)}
    try:
        return _convert({**fields, "payload": {key: _number_as_text(value) for key, value in values.items()}})
    except (msgspec.ValidationError, TypeError, UnicodeError):
        return None


def _number_as_text(value: object) -> object:
    if isinstance(value, Decimal) and value.is_finite():
        return to_plain_string(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


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
