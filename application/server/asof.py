"""As of when a question is asked: a moment, or a position in the ledger."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

from ...domain.instants import is_aware
from .refusals import Refusal, invalid_parameter
from .times import FIRST_SECOND, LAST_SECOND, at_unix
from .wire import ListParameters, Parameters

_LAST_POSITION = 2**63 - 1


Moment = Annotated[
    str,
    Meta(min_length=1, max_length=40, pattern=r"^(-?[0-9]{1,12}|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ].*)$",
         description="Seconds since 1970 or RFC 3339: with what was recorded up to and including then."),
]  # fmt: skip
Position = Annotated[int, Meta(ge=0, le=_LAST_POSITION, description="With what the ledger held up to this position.")]


class KnownAsOf(Parameters, kw_only=True):
    """As of when to answer; now, where neither is given."""

    as_of: Moment | None = None
    as_of_position: Position | None = None


class ListKnownAsOf(ListParameters, kw_only=True):
    """A list, and as of when to answer; now, where neither is given."""

    as_of: Moment | None = None
    as_of_position: Position | None = None


def as_of(asked: KnownAsOf | ListKnownAsOf) -> datetime | int | None:
    """As of when it is asked. Raises Refusal."""
    if asked.as_of is None:
        return asked.as_of_position
    if asked.as_of_position is not None:
        raise Refusal(400, "as_of and as_of_position can't be given both.", code="parameter_invalid")
    if asked.as_of.lstrip("-").isdecimal():
        seconds = int(asked.as_of)
        if FIRST_SECOND <= seconds <= LAST_SECOND:
            return at_unix(seconds)
    else:
        try:
            at = datetime.fromisoformat(asked.as_of)
        except ValueError:
            at = None
        if is_aware(at):
            return at
    raise invalid_parameter("as_of", f"Invalid as_of: '{asked.as_of}' is no time with an offset from UTC.")
