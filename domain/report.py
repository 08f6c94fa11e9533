"""A report of usage, as a caller hands it in."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta

from .errors import InvalidIdentifier, InvalidPayload, InvalidReport, InvalidTimestamp, TallybookError
from .texts import is_storable, is_unicode, shown

Identifier = Annotated[str, Meta(min_length=1, max_length=100)]
PayloadKey = Annotated[str, Meta(min_length=1, max_length=100)]
PayloadValue = Annotated[str, Meta(max_length=5_000)]


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One use of one meter.

    `identifier` names it for ever (1 to 100 characters; one is generated where there is none);
    `payload` maps up to 50 keys of at most 100 characters to values of at most 5,000, all text;
    `timestamp` says when the use happened (an aware datetime; the moment of recording where there is none).

    A struct of msgspec's, not a pydantic model: reading one takes a fifth of the time, and every use passes here.
    """

    event_name: str
    payload: Annotated[dict[PayloadKey, PayloadValue], Meta(max_length=50)]
    identifier: Identifier | None = None
    timestamp: Annotated[datetime, Meta(tz=True)] | None = None


def read_report(given: object) -> Report:
    """The report in `given`: a Report, a mapping of its fields, or any object with them as attributes.

    Raises InvalidIdentifier, InvalidPayload, InvalidTimestamp or InvalidReport, naming the field.
    """
    is_plain = isinstance(given, dict)
    if not is_plain and isinstance(given, Report):  # made in Python, where a struct's fields are not checked
        given = msgspec.structs.asdict(given)
    try:  # without the keyword where that will do: to pass one takes msgspec as long as to read a report
        report = msgspec.convert(given, Report) if is_plain else msgspec.convert(given, Report, from_attributes=True)
    except (msgspec.ValidationError, TypeError, UnicodeError) as error:
        raise _refusal(cast(object, given), str(error)) from None
    if not is_storable(report.event_name):
        raise InvalidReport(
            f"'event_name' holds a character that can't be stored: {shown(report.event_name)}.",
            field="event_name",
            value=report.event_name,
        )
    if report.identifier is not None and not is_storable(report.identifier):
        raise InvalidIdentifier(
            f"'identifier' holds a character that can't be stored: {shown(report.identifier)}.",
            field="identifier",
            value=report.identifier,
        )
    for key, value in report.payload.items():
        if not (key + value).isascii() and not is_unicode(key + value):
            raise InvalidPayload(
                f"'payload' holds text that isn't valid Unicode: {shown(key)}: {shown(value)}.",
                field=f"payload.{key}" if is_unicode(key) else "payload",
                value=value,
            )
    return report


def _refusal(given: object, said: str) -> TallybookError:
    if not _is_like_a_report(given):
        return InvalidReport(
            f"A report is a mapping or an object of event_name, payload, identifier and timestamp, not {shown(given)}.",
            field="report",
            value=given,
        )
    for field in ("event_name", "identifier", "payload", "timestamp"):
        value = _field(given, field)
        try:
            msgspec.convert(value, _TYPES[field])
        except (msgspec.ValidationError, UnicodeError) as error:
            if field == "payload" and isinstance(value, Mapping):
                return _payload_refusal(cast(Mapping[Any, Any], value), str(error))
            return _REFUSALS[field](f"{field!r} can't be {shown(value)}: {error}.", field=field, value=value)
    return InvalidReport(f"The report can't be read: {said}, in {shown(given)}.", field="report", value=given)


def _is_like_a_report(given: object) -> bool:
    return isinstance(given, Mapping) or any(hasattr(given, field) for field in _TYPES)


def _payload_refusal(payload: Mapping[Any, Any], said: str) -> TallybookError:
    for key, value in payload.items():
        try:
            msgspec.convert({key: value}, _TYPES["payload"])
        except (msgspec.ValidationError, UnicodeError):
            return InvalidPayload(
                f"'payload' must map text to text, keys of 1 to 100 characters to values of at most 5,000, "
                f"not {shown(key)}: {shown(value)}.",
                field=f"payload.{key}",
                value=value,
            )
    return InvalidPayload(f"'payload': {said}.", field="payload", value=payload)


def _field(given: object, field: str) -> object:
    if isinstance(given, Mapping):
        return cast(Mapping[str, object], given).get(field)
    return getattr(given, field, None)


_TYPES = {field.name: field.type for field in msgspec.structs.fields(Report)}
_REFUSALS: Mapping[str, type[TallybookError]] = {
    "event_name": InvalidReport,
    "identifier": InvalidIdentifier,
    "payload": InvalidPayload,
    "timestamp": InvalidTimestamp,
}
