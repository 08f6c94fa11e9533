"""CloudEvents in a request: one in structured or binary mode, or a batch.

Source: CloudEvents 1.0.2, HTTP Protocol Binding.
"""

import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal
from urllib.parse import unquote

import msgspec
from msgspec import Meta

from ....domain.text import abbreviated_repr
from .api_request import CLOUD_EVENT_MEDIA_TYPES, ApiRequest, media_type_of
from .api_types import Name
from .errors import ApiError, ErrorBody
from .parameters import validation_error
from .responses import JSON_MEDIA_TYPE

STRUCTURED, BATCH = CLOUD_EVENT_MEDIA_TYPES
MAX_EVENTS = 1_000
_MAX_SHOWN = 100
_JSON_TYPE = re.compile(r"(application|text)/([a-z0-9.-]+\+)?json|", re.IGNORECASE)
_QUOTED, _ESCAPED = re.compile(r'"(.*)"', re.DOTALL), re.compile(r"\\(.)", re.DOTALL)
_READ_ATTRIBUTES = ("specversion", "id", "source", "type", "subject", "time")

Attribute = Annotated[str, Meta(min_length=1, max_length=5_000)]


class CloudEvent(msgspec.Struct, kw_only=True):
    """An event of CloudEvents 1.0 with JSON data. Other attributes are allowed, and ignored.

    `type` is the event name of the meter, `source` and `id` identify the meter event, `time` is when the usage
    occurred. The payload has the texts and numbers of `data`, and `subject` is the customer if `data` names none.
    """

    specversion: Literal["1.0"]
    id: Attribute
    source: Attribute
    type: Name
    subject: str | None = None
    time: Annotated[datetime, Meta(tz=True)] | None = None
    datacontenttype: str | None = None
    data: dict[str, Any] | None = None


class RejectedCloudEvent(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An event that was not recorded: its index in the batch, and the error. `param` is its attribute.

    Only the first 100 characters of a longer `id` or `source` are shown.
    """

    index: int
    id: str = ""
    source: str = ""
    code: str
    message: str
    param: str = ""


class CloudEventsErrorBody(ErrorBody, omit_defaults=True):
    """An error. If events of a batch were rejected, they are in `rejected`; all others are recorded."""

    rejected: list[RejectedCloudEvent] = msgspec.field(default_factory=list[RejectedCloudEvent])


class CloudEventsError(msgspec.Struct):
    """The body of an error response."""

    error: CloudEventsErrorBody


class ParsedEvent(msgspec.Struct):
    """A valid event of a request, with its index in the batch."""

    index: int
    event: CloudEvent


class CloudEvents(msgspec.Struct):
    """The valid events of a request, and those of a batch that are not valid."""

    events: list[ParsedEvent]
    rejected: list[RejectedCloudEvent]
    is_batch: bool


def parse_cloud_events(request: ApiRequest) -> CloudEvents:
    """Return the events of a request. Raise ApiError if no event of it is valid."""
    media_type = media_type_of(request.content_type)
    if media_type == BATCH:
        return _parse_batch(request.body)
    if media_type == STRUCTURED:
        event = _parse(lambda: _decode_event(request.body))
    elif request.attributes and _JSON_TYPE.fullmatch(media_type):
        event = _parse(lambda: _binary_event(request))
    else:
        raise ApiError(
            400,
            f"Send a CloudEvent as {STRUCTURED}, a batch as {BATCH}, or the data of one as {JSON_MEDIA_TYPE} with its "
            "attributes in headers such as ce-id.",
            code="media_type_invalid",
        )
    return CloudEvents([ParsedEvent(0, event)], [], is_batch=False)


def rejection(index: int, event: CloudEvent | None, api_error: ApiError) -> RejectedCloudEvent:
    """Return an event of a batch with the error that it is rejected with."""
    error = api_error.error
    return RejectedCloudEvent(
        index=index,
        id=_abbreviated(event.id) if event else "",
        source=_abbreviated(event.source) if event else "",
        code=error.code,
        message=error.message,
        param=error.param,
    )


def _abbreviated(attribute: str) -> str:
    """Return an attribute, or its beginning if it is long: a response has those of 1,000 events."""
    return attribute if len(attribute) <= _MAX_SHOWN else f"{attribute[:_MAX_SHOWN]}…"


def batch_error(rejected: list[RejectedCloudEvent], recorded: int) -> ApiError:
    """Return the error of a batch with events that were not recorded."""
    first = min(rejected, key=lambda event: event.index)
    message = (
        f"{len(rejected)} of {len(rejected) + recorded} events were rejected, and all others are recorded. The first "
        f"one is number {first.index}: {first.message}"
    )
    api_error = ApiError(400, message)
    api_error.error = CloudEventsErrorBody(
        message, "invalid_request_error", "cloud_events_rejected", f"[{first.index}]", rejected=rejected
    )
    return api_error


def _parse_batch(body: bytes) -> CloudEvents:
    items = _parse(lambda: _decode_batch(body))
    if len(items) > MAX_EVENTS:
        raise ApiError(
            400, f"A batch has at most {MAX_EVENTS} events, this one {len(items)}. Send several.",
            code="parameter_invalid",
        )  # fmt: skip
    batch = CloudEvents([], [], is_batch=True)
    for index, item in enumerate(items):
        try:
            batch.events.append(ParsedEvent(index, _parse(lambda item=item: _decode_event(item))))
        except ApiError as api_error:
            batch.rejected.append(rejection(index, None, api_error))
    if not batch.events and batch.rejected:
        raise batch_error(batch.rejected, 0)
    if not batch.events:
        raise ApiError(400, "The batch has no events.", code="parameter_invalid")
    return batch


def _binary_event(request: ApiRequest) -> CloudEvent:
    """Return the event in binary mode: its attributes are headers, and the body is its data."""
    attributes: dict[str, object] = {
        name: _header_text(name, request.attributes[name]) for name in _READ_ATTRIBUTES if name in request.attributes
    }
    event = msgspec.convert(attributes, CloudEvent)
    return msgspec.structs.replace(event, data=_decode_data(request.body) if request.body else None)


def _header_text(name: str, value: str) -> str:
    """Return an attribute without the quotes and the percent-encoding of its header."""
    quoted = _QUOTED.fullmatch(value)
    text = _ESCAPED.sub(r"\1", quoted[1]) if quoted else value
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ApiError(
            400, f"The header ce-{name} is not percent-encoded UTF-8: {abbreviated_repr(value)}.",
            code="parameter_invalid", param=name,
        ) from None  # fmt: skip


def _parse(decode: Callable[[], Any]) -> Any:
    """Return the result of a decoder. Raise its error as an ApiError, with the attribute."""
    try:
        event = decode()
    except msgspec.ValidationError as error:
        raise validation_error(str(error)) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError, InvalidOperation) as error:
        raise ApiError(400, f"The event is not JSON: {error}.", code="json_invalid") from None
    if isinstance(event, CloudEvent) and not _JSON_TYPE.fullmatch(media_type_of(event.datacontenttype or "")):
        raise ApiError(
            400, f"The data must be JSON, not {abbreviated_repr(event.datacontenttype)}.",
            code="media_type_invalid", param="datacontenttype",
        )  # fmt: skip
    return event


_decode_event = msgspec.json.Decoder(CloudEvent, float_hook=Decimal).decode
_decode_data = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
_decode_batch = msgspec.json.Decoder(list[msgspec.Raw]).decode
