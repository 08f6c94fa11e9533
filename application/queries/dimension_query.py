"""The arguments `where` and `group_by` of queries, checked against the dimensions of a meter."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, cast

from ...domain.errors import InvalidParameter
from ...domain.plain_types import plain_text
from ...domain.rules import Rules
from ...domain.text import abbreviated_repr
from ...projections.dimensions import NO_GROUPS, DimensionFilter, DimensionGroups

MAX_VALUES = 1_000

Where = Mapping[str, str | Collection[str | None] | None]
"""By dimension key, the value or the values that a query selects; None selects usage without an optional dimension."""


class DimensionQuery(NamedTuple):
    """The dimension values that a query selects, all if None, and how it groups them."""

    selected: DimensionFilter | None = None
    groups: DimensionGroups = NO_GROUPS


def parse_dimension_query(
    rules: Rules, where: object, group_by: object, other_keys: Sequence[str] = ()
) -> DimensionQuery:
    """Return the arguments as a DimensionQuery. Raises InvalidParameter, which names the dimensions of the meter.

    `other_keys` are accepted too, as dimensions without a value.
    """
    keys = rules.all_dimension_keys
    known = dict.fromkeys((*keys, *other_keys))
    conditions = {_require_key(key, "where", known): _values(key, value) for key, value in _items(where)}
    group_keys = [_require_key(key, "group_by", known) for key in _texts(group_by)]
    if len(set(group_keys)) < len(group_keys):
        raise InvalidParameter(
            f"'group_by' must name different dimensions, not {abbreviated_repr(group_by)}.", field="group_by"
        )
    return DimensionQuery(
        DimensionFilter(keys, conditions) if conditions else None,
        DimensionGroups(keys, group_keys) if group_keys else NO_GROUPS,
    )


def _items(where: object) -> Iterable[tuple[object, object]]:
    if where is None:
        return ()
    if not isinstance(where, Mapping):
        raise InvalidParameter(
            f"'where' must map dimension keys to values, like {{'model': 'small'}}, not {abbreviated_repr(where)}.",
            field="where",
            value=where,
        )
    return cast(Mapping[object, object], where).items()


def _texts(group_by: object) -> Iterable[object]:
    if group_by is None:
        return ()
    if isinstance(group_by, str) or not isinstance(group_by, Iterable):
        raise InvalidParameter(
            f"'group_by' must be a list of dimension keys, like ['model'], not {abbreviated_repr(group_by)}.",
            field="group_by",
            value=group_by,
        )
    return cast(Iterable[object], group_by)


def _require_key(key: object, field: str, keys: Collection[str]) -> str:
    text = plain_text(key)
    if text is None or text not in keys:
        dimensions = f"its dimensions are {', '.join(map(repr, keys))}" if keys else "it has no dimensions"
        raise InvalidParameter(
            f"{field!r} names {abbreviated_repr(key)}, which is no dimension of the meter: {dimensions}.",
            field=field,
            value=key,
        )
    return text


def _values(key: object, values: object) -> frozenset[str | None]:
    """Return the selected values of one dimension."""
    single = values is None or isinstance(values, str)
    listed = [values] if single else list(cast(Iterable[object], values)) if isinstance(values, Iterable) else []
    texts = frozenset(None if value is None else plain_text(value) for value in listed)
    if not 1 <= len(listed) <= MAX_VALUES or (None in texts and None not in listed):
        raise InvalidParameter(
            f"'where' must map {key!r} to a text, None or a list of 1 to {MAX_VALUES} of them, not "
            f"{abbreviated_repr(values)}.",
            field="where",
            value=values,
        )
    return texts
