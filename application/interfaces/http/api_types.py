"""Field types shared by all resources: strict parameters, exact numbers and times."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from ....domain.timestamps import MICROSECONDS_PER_SECOND, from_microseconds, parse_iso, to_microseconds
from .errors import ApiError, invalid_parameter

Item = TypeVar("Item")

Id = Annotated[str, Meta(min_length=1, max_length=5_000)]
Name = Annotated[str, Meta(min_length=1, max_length=100)]
DisplayName = Annotated[str, Meta(min_length=1, max_length=250)]
Customer = Annotated[str, Meta(min_length=1, max_length=5_000)]
Reason = Annotated[str, Meta(min_length=1, max_length=500)]
Number = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "number"}, description="An exact decimal.")]


class Parameters(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The parameters of every operation. `expand` is accepted for Stripe's SDKs and has no effect."""

    expand: Annotated[list[Id], Meta(max_length=100)] = msgspec.field(default_factory=list[Id])


class NoParameters(msgspec.Struct, forbid_unknown_fields=True):
    """The operation has no parameters."""


class ListParameters(Parameters, kw_only=True):
    """The parameters of every list: the page size, and the cursor that the page starts after or ends before."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 10
    starting_after: Id | None = None
    ending_before: Id | None = None


class ListObject(msgspec.Struct, Generic[Item], kw_only=True):
    """A page of a list. `url` is the path of the list; request the next page with `starting_after`."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    url: str


def encode_decimal(value: Decimal) -> msgspec.Raw:
    """Return a decimal as a JSON number, exactly. It is never converted to a float."""
    return msgspec.Raw(format(value, "f").encode())


def optional_number(value: Decimal | None) -> msgspec.Raw | None:
    """Return a decimal as a JSON number, or None for null."""
    return None if value is None else encode_decimal(value)


encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode

FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799
UnixTime = Annotated[int, Meta(ge=FIRST_SECOND, le=LAST_SECOND, description="Seconds since 1970, UTC.")]
Rfc3339 = Annotated[str, Meta(extra_json_schema={"format": "date-time"}, description="RFC 3339, to the millisecond.")]


def to_unix(at: datetime) -> int:
    """Return a time as whole seconds since 1970, truncated."""
    return to_microseconds(at) // MICROSECONDS_PER_SECOND


def optional_unix(at: datetime | None) -> int | None:
    """Return a time as whole seconds since 1970, or None for null."""
    return None if at is None else to_unix(at)


def from_unix(seconds: int) -> datetime:
    """Return the time that is `seconds` after 1970."""
    return from_microseconds(seconds * MICROSECONDS_PER_SECOND)


def optional_from_unix(seconds: int | None) -> datetime | None:
    """Return the time that is `seconds` after 1970, or None for null."""
    return None if seconds is None else from_unix(seconds)


def to_rfc3339(at: datetime) -> str:
    """Return a time as RFC 3339 text, truncated to milliseconds, as Stripe's v2 API does."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


_MAX_POSITION = 2**63 - 1


AsOfTime = Annotated[
    str,
    Meta(min_length=1, max_length=40, pattern=r"^(-?[0-9]{1,12}|[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ].*)$",
         description="Seconds since 1970 or RFC 3339: include what was recorded before any event of a later time."),
]  # fmt: skip
AsOfPosition = Annotated[
    int, Meta(ge=0, le=_MAX_POSITION, description="Include what was recorded up to this position of the ledger.")
]


class AsOfParameters(Parameters, kw_only=True):
    """The time or the position of the ledger to read as of. The default is now."""

    as_of: AsOfTime | None = None
    as_of_position: AsOfPosition | None = None


class ListAsOfParameters(ListParameters, kw_only=True):
    """A list as of a time or a position of the ledger. The default is now."""

    as_of: AsOfTime | None = None
    as_of_position: AsOfPosition | None = None


def parse_as_of(params: AsOfParameters | ListAsOfParameters) -> datetime | int | None:
    """Return the time or the position to read as of, None for now. Raises ApiError."""
    return parse_point("as_of", params.as_of, params.as_of_position)


def parse_point(name: str, time: str | None, position: int | None) -> datetime | int | None:
    """Return a point of the ledger: a time that a parameter has, or a position. Raises ApiError if both are given."""
    if time is None:
        return position
    if position is not None:
        raise ApiError(400, f"Send either {name} or {name}_position, not both.", code="parameter_invalid")
    if time.lstrip("-").isdecimal():
        seconds = int(time)
        if FIRST_SECOND <= seconds <= LAST_SECOND:
            return from_unix(seconds)
    else:
        try:
            at = parse_iso(time)
        except ValueError:
            at = None
        if at is not None and at.utcoffset() is not None:
            return at
    raise invalid_parameter(name, f"Invalid {name}: '{time}' is not a time with an offset from UTC.")
