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


class DimensionArguments(NamedTuple):
    """The checked arguments: the selected values by key, and the keys to group by. The keys may not exist."""

    where: Mapping[str, frozenset[str | None]]
    group_by: tuple[str, ...]


NO_DIMENSIONS = DimensionArguments({}, ())


class DimensionQuery(NamedTuple):
    """The dimension values that a query selects, all if None, and how it groups them."""

    selected: DimensionFilter | None = None
    groups: DimensionGroups = NO_GROUPS


def parse_dimensions(where: object, group_by: object) -> DimensionArguments:
    """Return the arguments of a query. Raises InvalidParameter."""
    conditions = {_require_text(key, "where"): _values(key, value) for key, value in _items(where)}
    keys = tuple(_require_text(key, "group_by") for key in _elements(group_by))
    if len(set(keys)) < len(keys):
        raise InvalidParameter(
            f"'group_by' must name different dimensions, not {abbreviated_repr(group_by)}.", field="group_by"
        )
    return DimensionArguments(conditions, keys) if conditions or keys else NO_DIMENSIONS


def resolve_dimensions(
    rules: Rules, arguments: DimensionArguments, known_keys: Collection[str] | None = None
) -> DimensionQuery:
    """Return the dimension values that a query selects and groups by under some rules.

    `known_keys` are all keys that may be named, if there are other ones than those of the rules: a key that the rules
    haven't is a dimension without a value. Raises InvalidParameter, which names the dimensions of the meter.
    """
    if arguments is NO_DIMENSIONS:
        return DimensionQuery()
    keys = rules.all_dimension_keys
    for field, named in zip(DimensionArguments._fields, (arguments.where, arguments.group_by), strict=True):
        for key in named:
            _require_known(key, field, keys if known_keys is None else known_keys)
    return DimensionQuery(
        DimensionFilter(keys, arguments.where) if arguments.where else None,
        DimensionGroups(keys, arguments.group_by) if arguments.group_by else NO_GROUPS,
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


def _elements(group_by: object) -> Iterable[object]:
    if group_by is None:
        return ()
    if isinstance(group_by, str) or not isinstance(group_by, Iterable):
        raise InvalidParameter(
            f"'group_by' must be a list of dimension keys, like ['model'], not {abbreviated_repr(group_by)}.",
            field="group_by",
            value=group_by,
        )
    return cast(Iterable[object], group_by)


def _require_text(key: object, field: str) -> str:
    text = plain_text(key)
    if text is None:
        raise InvalidParameter(
            f"{field!r} must name dimension keys, not {abbreviated_repr(key)}.", field=field, value=key
        )
    return text


def _require_known(key: str, field: str, keys: Collection[str]) -> None:
    if key not in keys:
        dimensions = f"its dimensions are {', '.join(map(repr, dict.fromkeys(keys)))}" if keys else "it has none"
        raise InvalidParameter(
            f"{field!r} names {abbreviated_repr(key)}, which is no dimension of the meter: {dimensions}.",
            field=field,
            value=key,
        )


def _values(key: object, values: object) -> frozenset[str | None]:
    """Return the selected values of one dimension."""
    if values is None or isinstance(values, str):
        return frozenset((plain_text(values),))
    listed = _listed(values)
    texts = frozenset(plain_text(value) for value in listed)
    if not 1 <= len(listed) <= MAX_VALUES or any(plain_text(value) is None and value is not None for value in listed):
        raise InvalidParameter(
            f"'where' must map {key!r} to a text, None or a list of 1 to {MAX_VALUES} of them, not "
            f"{abbreviated_repr(values)}.",
            field="where",
            value=values,
        )
    return texts


def _listed(values: object) -> Sequence[object]:
    """Return the elements of a list of values; none if it isn't iterable."""
    return list(cast(Iterable[object], values)) if isinstance(values, Iterable) else ()
