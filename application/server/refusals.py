"""Refusals over HTTP: what Stripe's SDKs make an error of, in the shapes of v1 and v2."""

from collections.abc import Mapping

import msgspec

from ...domain import errors
from ...domain.errors import TallybookError


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """What is wrong: `type` and `code` are for programs, `message` for people, `param` names the parameter."""

    message: str
    type: str = ""
    code: str = ""
    param: str = ""
    doc_url: str = ""


class Refused(msgspec.Struct):
    """A refusal, as it goes over the wire."""

    error: ErrorBody


SERVER_ERROR, UNAVAILABLE = 500, 503
_LATER = {408, 409, 429, UNAVAILABLE}


class Refusal(Exception):
    """A request that is refused, with the status and the headers of its answer."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str = "",
        param: str = "",
        doc_url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = ErrorBody(message, kind, code, param, doc_url)
        self.headers = dict(headers or {})

    @property
    def should_retry(self) -> bool:
        """Whether the same request may be taken later."""
        return self.status in _LATER

    @property
    def is_ours(self) -> bool:
        """Whether nothing is wrong with the request: whoever runs the server has to look."""
        return self.status >= SERVER_ERROR


def missing_object(thing: str, identifier: str, param: str = "id", status: int = 404) -> Refusal:
    """There is no such object."""
    return Refusal(status, f"No such {thing}: '{identifier}'", code="resource_missing", param=param)


def invalid_parameter(param: str, message: str, code: str = "parameter_invalid") -> Refusal:
    """A parameter can't be taken as it is."""
    return Refusal(400, message, code=code, param=param)


def too_much(message: str, reason: str, retry_after_seconds: int = 1) -> Refusal:
    """More was asked for at once than is taken."""
    return Refusal(
        429, message, kind="rate_limit_error", code="rate_limit",
        headers={"Retry-After": str(retry_after_seconds), "Stripe-Rate-Limited-Reason": reason},
    )  # fmt: skip


_STATUS: Mapping[type[TallybookError], int] = {
    errors.InvalidAccessKey: 401,
    errors.NoMeterEvent: 404,
    errors.NoAccessKey: 404,
    errors.NoGeneration: 404,
    errors.RebuildRunning: 409,
    errors.GenerationInUse: 409,
    errors.RulesMovedOn: 409,
    errors.LedgerUnavailable: 503,
    errors.NotPermitted: 503,
    errors.LedgerDamaged: 500,
    errors.ProjectionStopped: 500,
}
_OURS = {SERVER_ERROR: "The ledger can't answer this: whoever runs it finds the reason in its log.",
         UNAVAILABLE: "The ledger can't be reached now. Try again: what has an idempotency key, or an identifier, is "
                      "done once, also where it was lost in the middle."}  # fmt: skip


def refusal_of(error: TallybookError, names: Mapping[str, str]) -> Refusal:
    """A refusal of the ledger, over HTTP. `names` says which parameters its fields came from.

    What is wrong with the ledger itself, whose messages name places inside of it, is told in general words.
    """
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 400)
    param = names.get(error.field or "", error.field or "")
    if status in _OURS:
        return Refusal(status, _OURS[status], kind="api_error", code=error.code,
                       headers={"Retry-After": "1"} if status == UNAVAILABLE else {})  # fmt: skip
    return Refusal(status, error.message, code=error.code, param=param)
