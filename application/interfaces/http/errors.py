"""Errors of HTTP responses, in the shapes that Stripe's SDKs turn into exceptions."""

from collections.abc import Mapping

import msgspec

from ....domain.errors import TallybookError


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """An error: `type` and `code` are for programs, `message` is for people, `param` names the parameter."""

    message: str
    type: str = ""
    code: str = ""
    param: str = ""
    doc_url: str = ""


class ErrorEnvelope(msgspec.Struct):
    """The body of an error response."""

    error: ErrorBody


SERVER_ERROR, UNAVAILABLE = 500, 503
INTERNAL_ERROR_MESSAGE = "An internal error occurred. The operator can find the reason in the server's log."
_RETRYABLE_STATUSES = {408, 409, 429, UNAVAILABLE}


class ApiError(Exception):
    """An error response, with its status and headers."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        error_type: str = "invalid_request_error",
        code: str = "",
        param: str = "",
        doc_url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = ErrorBody(message, error_type, code, param, doc_url)
        self.headers = dict(headers or {})

    @property
    def should_retry(self) -> bool:
        """Return whether the same request may succeed later."""
        return self.status in _RETRYABLE_STATUSES

    @property
    def is_server_error(self) -> bool:
        """Return whether the server failed and the request may be valid."""
        return self.status >= SERVER_ERROR


def missing_object(object_name: str, identifier: str, param: str = "id", status: int = 404) -> ApiError:
    """Return the error for an object that does not exist."""
    return ApiError(status, f"No such {object_name}: '{identifier}'", code="resource_missing", param=param)


MAX_PARAM_CHARACTERS, MAX_MESSAGE_CHARACTERS = 200, 1_000
"""A parameter name that a client made up may have the size of a body."""


def invalid_parameter(param: str, message: str, code: str = "parameter_invalid") -> ApiError:
    """Return the error for an invalid parameter. Long names are truncated."""
    return ApiError(400, message[:MAX_MESSAGE_CHARACTERS], code=code, param=param[:MAX_PARAM_CHARACTERS])


def rate_limited(message: str, reason: str, retry_after_seconds: int = 1) -> ApiError:
    """Return a 429 error."""
    return ApiError(
        429, message, error_type="rate_limit_error", code="rate_limit",
        headers={"Retry-After": str(retry_after_seconds), "Stripe-Rate-Limited-Reason": reason},
    )  # fmt: skip


def too_many_unread_responses() -> ApiError:
    """Return the error for a key whose earlier responses are not read."""
    return rate_limited(
        "Too many bytes of responses to this key wait to be read. Read them, or close their connections.",
        "global-concurrency",
    )


_SERVER_ERROR_MESSAGES = {
    SERVER_ERROR: "Internal error in the ledger. The operator can find the reason in the server's log.",
    UNAVAILABLE: "The ledger is unavailable. Retry later: a request with an idempotency key or an identifier takes "
    "effect once.",
}


def to_api_error(error: TallybookError, param_names: Mapping[str, str]) -> ApiError:
    """Return an error of the ledger as the error of an HTTP response.

    `param_names` maps the fields of library errors to HTTP parameters. Messages of server errors are replaced by
    general ones, because they may name paths and hosts.
    """
    status = error.http_status
    param = param_names.get(error.field or "", error.field or "")
    if status in _SERVER_ERROR_MESSAGES:
        return ApiError(status, _SERVER_ERROR_MESSAGES[status], error_type="api_error", code=error.code,
                       headers={"Retry-After": "1"} if status == UNAVAILABLE else {})  # fmt: skip
    message, quoted_field = error.message, repr(error.field)
    if param and message.startswith(quoted_field):  # messages about an argument begin with its name
        message = repr(param) + message.removeprefix(quoted_field)
    return ApiError(status, message, code=error.code, param=param)
