"""Responses. Their form is independent of the web framework, because the idempotency store stores them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import msgspec

from .api_types import encode
from .errors import ApiError, ErrorEnvelope

JSON_MEDIA_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A response: status, body and headers."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    media_type: str = JSON_MEDIA_TYPE

    @property
    def size(self) -> int:
        """Return the number of bytes of the body."""
        return len(self.body)

    @property
    def is_success(self) -> bool:
        """Return whether the request was executed."""
        return self.status < HTTPStatus.BAD_REQUEST


def success(result: object) -> ApiResponse:
    """Return a response with a result."""
    return ApiResponse(200, encode(result))


def error_response(api_error: ApiError, *, is_v2: bool) -> ApiResponse:
    """Return an error response. In v2 every error has a code; in v1 every error has a type."""
    error = api_error.error
    if is_v2 and not error.code:
        error = msgspec.structs.replace(error, code=error.type)
    retry_is_known = api_error.should_retry or not api_error.is_server_error
    retry = {"Stripe-Should-Retry": "true" if api_error.should_retry else "false"} if retry_is_known else {}
    return ApiResponse(api_error.status, encode(ErrorEnvelope(error)), {**retry, **api_error.headers})
