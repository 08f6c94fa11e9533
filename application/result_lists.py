"""Lists of results that engines for data frames read too: totals and meter events, by Arrow's C stream interface."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from .results import MeterEventView, Total

if TYPE_CHECKING:
    from .arrow_columns import Column

Result_co = TypeVar("Result_co", covariant=True)

if TYPE_CHECKING:
    _Base = Sequence
else:
    _Base = Generic
    # A type checker sees a Sequence. It isn't an instance of one, or of list, when the program runs: polars and pandas
    # take these for rows before they look for __arrow_c_stream__.


class ResultList(_Base[Result_co]):
    """An immutable list of results. It equals a list of the same results.

    polars (`pl.DataFrame(results)`), pandas (`pd.DataFrame.from_arrow(results)`), DuckDB (`FROM results`) and pyarrow
    (`pa.table(results)`) read it by `__arrow_c_stream__`, which needs pyarrow, of the extra `arrow`. Numbers are exact:
    a column is decimal128, or decimal256 or text if the digits of its values don't fit.
    """

    __slots__ = ("_dimension_keys", "_results")
    __hash__ = None  # pyright: ignore[reportAssignmentType] - as of a list

    def __init__(self, results: Iterable[Result_co], dimension_keys: Iterable[str] = ()) -> None:
        self._results = tuple(results)
        self._dimension_keys = tuple(dimension_keys)

    def __len__(self) -> int:
        return len(self._results)

    def __iter__(self) -> Iterator[Result_co]:
        return iter(self._results)

    def __reversed__(self) -> Iterator[Result_co]:
        return reversed(self._results)

    def __contains__(self, result: object) -> bool:
        return result in self._results

    @overload
    def __getitem__(self, index: int) -> Result_co: ...
    @overload
    def __getitem__(self, index: slice) -> "ResultList[Result_co]": ...
    def __getitem__(self, index: int | slice) -> "Result_co | ResultList[Result_co]":
        if isinstance(index, slice):
            return type(self)(self._results[index], self._dimension_keys)
        return self._results[index]

    def __add__(self, other: Iterable[Any]) -> list[Any]:
        return [*self, *other]

    def __radd__(self, other: Iterable[Any]) -> list[Any]:
        return [*other, *self]

    def __eq__(self, other: object) -> bool:
        match other:
            case ResultList():
                return self._results == tuple(other)  # pyright: ignore[reportUnknownArgumentType]
            case list():
                return list(self._results) == other
            case _:
                return NotImplemented

    def __repr__(self) -> str:
        return repr(list(self._results))

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """Return the index of the first result that equals `value`. Raises ValueError if there is none."""
        return self._results.index(value, start, len(self) if stop is None else stop)

    def count(self, value: Any) -> int:
        """Return how many results equal `value`."""
        return self._results.count(value)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return an Arrow stream with a row for each result. Raises InvalidParameter if pyarrow isn't installed."""
        from .arrow_columns import arrow_table  # noqa: PLC0415 - an extra

        return arrow_table(self._columns()).__arrow_c_stream__(requested_schema)

    @abstractmethod
    def _columns(self) -> "Iterable[Column]":
        """Return the columns of the results, named as in their JSON."""


class TotalList(ResultList[Total]):
    """Totals. As an Arrow table, it has a row for each total, or for each of their groups if the query asked for them.

    A column `dimension_KEY` for each dimension of the groups is null if the optional dimension is absent.
    """

    __slots__ = ()

    def _columns(self) -> "Iterable[Column]":
        from .arrow_columns import Column, Kind  # noqa: PLC0415 - an extra

        rows = [group for total in self for group in total.groups] if self._dimension_keys else list(self)
        yield Column("customer", Kind.TEXT, [row.customer for row in rows])
        for key in self._dimension_keys:
            yield Column(f"dimension_{key}", Kind.TEXT, [row.dimensions.get(key) for row in rows])
        yield Column("start", Kind.TIME, [row.start for row in rows])
        yield Column("end", Kind.TIME, [row.end for row in rows])
        yield Column("value", Kind.DECIMAL, [row.value for row in rows])
        yield Column("billable", Kind.DECIMAL, [row.billable for row in rows])
        yield Column("count", Kind.INTEGER, [row.count for row in rows])
        yield Column("sum", Kind.DECIMAL, [row.sum for row in rows])
        yield Column("last", Kind.DECIMAL, [row.last for row in rows])
        yield Column("min", Kind.DECIMAL, [row.min for row in rows])
        yield Column("max", Kind.DECIMAL, [row.max for row in rows])
        yield Column("counted_from", Kind.TIME, [row.counted_from for row in rows])
        yield Column("counted_until", Kind.TIME, [row.counted_until for row in rows])


class MeterEventList(ResultList[MeterEventView]):
    """Meter events. As an Arrow table, the payload is a map, and there is a column `dimension_KEY` for each dimension.

    Revoked cancellations are left out.
    """

    __slots__ = ()

    def _columns(self) -> "Iterable[Column]":
        from .arrow_columns import Column, Kind  # noqa: PLC0415 - an extra

        yield Column("event_name", Kind.TEXT, [event.event_name for event in self])
        yield Column("identifier", Kind.TEXT, [event.identifier for event in self])
        yield Column("customer", Kind.TEXT, [event.customer for event in self])
        yield Column("value", Kind.DECIMAL, [event.value for event in self])
        yield Column("unique_value", Kind.TEXT, [event.unique_value for event in self])
        for key in self._dimension_keys:
            yield Column(f"dimension_{key}", Kind.TEXT, [event.dimensions.get(key) for event in self])
        yield Column("payload", Kind.MAP, [list(event.payload.items()) for event in self])
        yield Column("occurred_at", Kind.TIME, [event.occurred_at for event in self])
        yield Column("recorded_at", Kind.TIME, [event.recorded_at for event in self])
        yield Column("position", Kind.INTEGER, [event.position for event in self])
        yield Column("verdict", Kind.TEXT, [event.verdict.value for event in self])
        yield Column("revision", Kind.INTEGER, [event.revision for event in self])
        yield Column("superseded_by", Kind.TEXT, [event.superseded_by for event in self])
        yield Column("cancelled_at", Kind.TIME, [event.cancelled_at for event in self])
        yield Column("reason", Kind.TEXT, [event.reason for event in self])
        yield Column("by", Kind.TEXT, [event.by for event in self])
