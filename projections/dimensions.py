"""Dimensions in queries: the selected combinations of dimension values, and the group of each."""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from ..domain.rules import DimensionValues

Group = tuple[str | None, ...]
"""The values of the dimensions that a query groups by; None if an optional one is absent."""

_CACHE_SIZE = 100_000


def group_order(group: Group) -> tuple[tuple[bool, str], ...]:
    """Return the key by which groups are sorted: by their values, an absent dimension first."""
    return tuple((value is not None, value or "") for value in group)


class DimensionGroups(dict[str, Group]):
    """Maps the dimension values of a record, as JSON text, to their group under the keys that a query groups by.

    A key that is no dimension of the meter has the value None.
    """

    def __init__(self, keys: Sequence[str], group_by: Sequence[str]) -> None:
        """Group by some of the dimension keys of a meter; without any, all records are in the group ()."""
        super().__init__()
        self.group_by = tuple(group_by)
        self._indexes = [keys.index(key) if key in keys else None for key in group_by]
        self[""] = (None,) * len(self._indexes)  # of a meter without dimensions

    def __missing__(self, dimensions: str) -> Group:
        if not self._indexes:
            return ()
        if len(self) >= _CACHE_SIZE:
            self.clear()
        values = decode_dimensions(dimensions)
        group = self[dimensions] = tuple([None if index is None else values[index] for index in self._indexes])
        return group


NO_GROUPS = DimensionGroups((), ())


class DimensionFilter(dict[str, bool]):
    """Maps the dimension values of a record, as JSON text, to whether a query selects them."""

    def __init__(self, keys: Sequence[str], where: Mapping[str, Collection[str | None]]) -> None:
        """Select the records with one of these values for each key; None selects records without the dimension."""
        super().__init__()
        self._conditions = [
            (keys.index(key) if key in keys else None, frozenset(values)) for key, values in where.items()
        ]

    def __missing__(self, dimensions: str) -> bool:
        if len(self) >= _CACHE_SIZE:
            self.clear()
        values = decode_dimensions(dimensions)
        is_selected = self[dimensions] = all(
            (None if index is None else values[index]) in allowed for index, allowed in self._conditions
        )
        return is_selected


def encode_dimensions(values: DimensionValues) -> str:
    """Return dimension values as JSON text, which is part of a bucket's key; "" without dimensions."""
    return msgspec.json.encode(values).decode() if values else ""


def decode_dimensions(dimensions: str) -> DimensionValues:
    """Return the dimension values of JSON text."""
    return _decode(dimensions) if dimensions else ()


_decode = msgspec.json.Decoder(tuple[str | None, ...]).decode
