"""Parameters that select usage by its dimension values and group it, by the names of Stripe's preview."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from ....projections.dimensions import group_order
from ...queries.dimension_query import MAX_VALUES, Where
from ...results import Total
from ...rules_arguments import MAX_DIMENSIONS
from .api_types import Name, encode
from .object_ids import name_from_token, name_token

DimensionValue = Annotated[str, Meta(max_length=5_000)]
DimensionValues = Annotated[list[DimensionValue | None], Meta(min_length=1, max_length=MAX_VALUES)]

DimensionFilters = Annotated[
    dict[Name, DimensionValue | DimensionValues | None],
    Meta(
        max_length=MAX_DIMENSIONS,
        description="The selected value of each dimension, or a list of values: dimension_filters[region][]=eu. "
        "An empty value selects usage without the dimension, or with empty text.",
    ),
]
DimensionGroupByKeys = Annotated[
    tuple[Name, ...], Meta(max_length=MAX_DIMENSIONS, description="The dimensions to group by, in this order.")
]
Dimensions = dict[str, str | None]
"""The values of dimensions in a response; null for an absent optional dimension."""


def to_where(filters: DimensionFilters | None) -> Where | None:
    """Return filters as the library's argument. A query has no null, so an empty value stands for it too."""
    if filters is None:
        return None
    return {key: _selected_values(values) for key, values in filters.items()}


def _selected_values(values: str | list[str | None] | None) -> list[str | None]:
    listed = values if isinstance(values, list) else [values]
    expanded = [expanded for value in listed for expanded in ((value,) if value else ("", None))]
    return list(dict.fromkeys(expanded))


def in_groups(totals: Iterable[Total], group_by: Sequence[str]) -> list[Total]:
    """Return the totals of all groups if a query groups, else the totals themselves."""
    return [group for total in totals for group in total.groups] if group_by else list(totals)


# --- groups in ids and cursors --------------------------------------------------------------------

GroupKey = tuple[tuple[bool, str], ...]


def group_key(total: Total) -> GroupKey:
    """Return the key by which the groups of a total are sorted; () without grouping."""
    return group_order(tuple(total.dimensions.values()))


def group_token(dimensions: Mapping[str, str | None]) -> str:
    """Return the representation of a group in an id; empty text without grouping."""
    return name_token(encode(dimensions).decode()) if dimensions else ""


def find_group_key(token: str, group_by: Sequence[str], totals: Iterable[Total]) -> GroupKey | None:
    """Return the sort key of the group that a token represents; None if it is no group of these dimensions.

    A group that no longer has usage is found too, unless its token is a digest: that is looked up in `totals`.
    """
    if not group_by:
        return None if token else ()
    text = name_from_token(token)
    if text is None:
        return next((group_key(total) for total in totals if group_token(total.dimensions) == token), None)
    try:
        dimensions = msgspec.json.decode(text, type=Dimensions)
    except (msgspec.DecodeError, UnicodeError):
        return None
    return group_order(tuple(dimensions.values())) if list(dimensions) == list(group_by) else None
