"""A request as it was received, and its parameters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import ApiError, invalid_parameter
from .idempotency import request_fingerprint
from .operations import Operation
from .parameters import FORM_MEDIA_TYPE, parse_form, parse_json, parse_parameters
from .responses import JSON_MEDIA_TYPE

CLOUD_EVENT_MEDIA_TYPES = ("application/cloudevents+json", "application/cloudevents-batch+json")
"""Those of one CloudEvent in structured mode, and of a batch."""


@dataclass(slots=True)
class RequestTrace:
    """Details of a request for the access log: the id of its key, the number of its events, and whose data it reads."""

    key_id: str = ""
    events: int = 0
    customer: str = ""


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request as it was received."""

    request_id: str
    path: str
    path_parameters: dict[str, str] = field(default_factory=dict[str, str])
    query: str = ""
    body: bytes = b""
    content_type: str = ""
    authorization: str = ""
    idempotency_key: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    """The headers of a CloudEvent in binary mode, without their prefix `ce-`."""
    trace: RequestTrace = field(default_factory=RequestTrace)


def is_json(content_type: str) -> bool:
    """Return whether a body with this content type is JSON."""
    return media_type_of(content_type) in (JSON_MEDIA_TYPE, *CLOUD_EVENT_MEDIA_TYPES)


def media_type_of(content_type: str) -> str:
    """Return the media type of a Content-Type header, without its parameters."""
    return content_type.partition(";")[0].strip().lower()


def parse_request(operation: Operation, request: ApiRequest) -> tuple[Any, bytes]:
    """Return the parameters and the fingerprint of a request. Raises ApiError."""
    return parse_params(operation, request), fingerprint_of(operation, request)


def parse_params(operation: Operation, request: ApiRequest) -> Any:
    """Return the parameters of a request. Raises ApiError."""
    if operation.method != "POST":
        return parse_parameters(parse_form(request.query), operation.params_type, from_text=True)
    if request.query:
        raise invalid_parameter(
            request.query.partition("=")[0], "A POST request must have no parameters in its URL.", "parameter_unknown"
        )
    if operation.body_format is not None:
        return operation.body_format.parse(request)
    media_type = media_type_of(request.content_type)
    if media_type == JSON_MEDIA_TYPE or not request.body:
        return parse_json(request.body, operation.params_type)
    if media_type != FORM_MEDIA_TYPE or operation.is_v2:
        raise ApiError(
            400,
            f"The body must be {JSON_MEDIA_TYPE}{'' if operation.is_v2 else ' or ' + FORM_MEDIA_TYPE}.",
            code="media_type_invalid",
        )
    try:
        text = request.body.decode()
    except UnicodeDecodeError:
        raise ApiError(400, "The body is not UTF-8.") from None
    return parse_parameters(parse_form(text), operation.params_type, from_text=True)


def fingerprint_of(operation: Operation, request: ApiRequest) -> bytes:
    """Return what a retry with the same idempotency key must have in common with a request."""
    attributes = "".join(f"\0{name}\0{value}" for name, value in sorted(request.attributes.items()))
    return request_fingerprint(operation.method, request.path, request.body + attributes.encode())
