"""Answers, as they go out, and those that are kept for whoever asks the same again."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from .refusals import Refusal, Refused
from .wire import encode

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back to the caller."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    media_type: str = JSON


def done(result: object) -> Answer:
    """The answer that something was done, and what it is now."""
    return Answer(200, encode(result))


def refused(refusal: Refusal, *, is_v2: bool) -> Answer:
    """The answer that something is refused. In v2 every error has a code; in v1 every error has a type."""
    error = refusal.error
    if is_v2 and not error.code:
        error = msgspec.structs.replace(error, code=error.type)
    is_told = refusal.should_retry or not refusal.is_ours
    retry = {"Stripe-Should-Retry": "true" if refusal.should_retry else "false"} if is_told else {}
    return Answer(refusal.status, encode(Refused(error)), {**retry, **refusal.headers})
