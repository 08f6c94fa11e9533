"""What goes over the wire: parameters are read strictly, answers are written exactly."""

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

Item = TypeVar("Item")

Id = Annotated[str, Meta(min_length=1, max_length=5_000)]
Name = Annotated[str, Meta(min_length=1, max_length=100)]
DisplayName = Annotated[str, Meta(min_length=1, max_length=250)]
Customer = Annotated[str, Meta(min_length=1, max_length=5_000)]
Number = Annotated[msgspec.Raw, Meta(extra_json_schema={"type": "number"}, description="An exact decimal.")]


class Parameters(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What every call takes. `expand` is taken for the sake of Stripe's SDKs: nothing here needs expanding."""

    expand: Annotated[list[Id], Meta(max_length=100)] = msgspec.field(default_factory=list[Id])


class NoParameters(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing needs to be said."""


class ListParameters(Parameters, kw_only=True):
    """What every list takes: how many at a time, and after or before which one."""

    limit: Annotated[int, Meta(ge=1, le=100)] = 10
    starting_after: Id | None = None
    ending_before: Id | None = None


class Listed(msgspec.Struct, Generic[Item], kw_only=True):
    """A page of a list. `url` is where it was read; the next page is asked for with `starting_after`."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    url: str


def number(value: Decimal) -> msgspec.Raw:
    """A figure as a JSON number that is its exact decimal text; no float comes near it."""
    return msgspec.Raw(format(value, "f").encode())


encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
