"""Columns that several tables have: the dimension values of usage, and the values of meter events."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from ..formatting import format_number
from .terminal import format_name

if TYPE_CHECKING:
    from ...results import MeterEventView

_ALL = "(all)"
"""The cell of a total, above those of its groups."""
_ABSENT = "(none)"
"""The cell of an optional dimension that the usage doesn't have."""


class _HasDimensions(Protocol):
    @property
    def dimensions(self) -> Mapping[str, str | None]: ...


def dimension_keys(groups: Iterable[_HasDimensions]) -> tuple[str, ...]:
    """Return the keys of all dimensions of groups, events or differences, in their order."""
    return tuple(dict.fromkeys(key for group in groups for key in group.dimensions))


def dimension_titles(keys: Iterable[str], others: Collection[str]) -> tuple[str, ...]:
    """Return the titles of the columns of dimensions, none of them that of another column."""
    return tuple(format_name(f"dimension {key}" if key in others else key) for key in keys)


def dimension_cells(keys: Iterable[str], dimensions: Mapping[str, str | None]) -> tuple[str, ...]:
    """Return a cell for each key: the value of the dimension, or `(none)` if it is absent from the usage."""
    values = map(dimensions.get, keys)
    return tuple(_ABSENT if value is None else value for value in values)


def group_cells(keys: Sequence[str], dimensions: Mapping[str, str | None]) -> tuple[str, ...]:
    """Return the cells of a group, or of a total, which has no dimensions: `(all)` for each key."""
    return dimension_cells(keys, dimensions) if dimensions else tuple(_ALL for _ in keys)


def format_value(event: "MeterEventView") -> str:
    """Return the value of a meter event: a number, or the text that the formula unique_count counts."""
    return format_number(event.value) if event.unique_value is None else event.unique_value


def numeric_columns(events: Iterable["MeterEventView"], *columns: str) -> tuple[str, ...]:
    """Return the columns that hold only numbers: not `value`, if one of the values is text."""
    has_text = any(event.unique_value is not None for event in events)
    return tuple(column for column in columns if column != "value" or not has_text)
