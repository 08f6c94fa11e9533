"""Columns of results as an Arrow table, with pyarrow. Decimals are exact, whatever the number of their digits."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import Enum, auto
from typing import Any, NamedTuple

from ..domain.decimals import to_plain_string
from ..domain.errors import InvalidParameter

INSTALL_HINT = "Results as Arrow tables need an extra: pip install 'tallybook[arrow]'."
MAX_DIGITS_128 = 38
MAX_DIGITS_256 = 76


class Kind(Enum):
    """The kind of the values of a column, which determines its Arrow type."""

    TEXT = auto()
    INTEGER = auto()
    DECIMAL = auto()
    TIME = auto()
    MAP = auto()


class Column(NamedTuple):
    """A column: its name and its values. None is null."""

    name: str
    kind: Kind
    values: Sequence[Any]


def arrow_table(columns: Iterable[Column]) -> Any:
    """Return a pyarrow.Table. Times are microseconds in UTC. Raises InvalidParameter if pyarrow isn't installed."""
    try:
        from .archive.arrow import pa  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InvalidParameter(INSTALL_HINT, field="__arrow_c_stream__") from error

    types = {
        Kind.TEXT: pa.string(),
        Kind.INTEGER: pa.int64(),
        Kind.TIME: pa.timestamp("us", tz="UTC"),
        Kind.MAP: pa.map_(pa.string(), pa.string()),
    }
    # A list of names, not a mapping: a dimension's column may have the name of another one.
    names: list[str] = []
    arrays: list[Any] = []
    for name, kind, values in columns:
        names.append(name)
        arrays.append(_decimals(pa, values) if kind is Kind.DECIMAL else pa.array(values, types[kind]))
    return pa.table(arrays, names=names)


def _decimals(pa: Any, values: Sequence[Decimal | None]) -> Any:
    """Return numbers as decimal128 if their digits fit, or else as decimal256, or else as plain decimal text."""
    scale = whole_digits = 0
    for value in values:
        if value is not None:
            scale = max(scale, -int(value.as_tuple().exponent))
            whole_digits = max(whole_digits, value.adjusted() + 1)
    digits = scale + whole_digits
    if digits <= MAX_DIGITS_128:
        return pa.array(values, pa.decimal128(MAX_DIGITS_128, scale))
    if digits <= MAX_DIGITS_256:
        return pa.array(values, pa.decimal256(MAX_DIGITS_256, scale))
    return pa.array([None if value is None else to_plain_string(value) for value in values], pa.string())
