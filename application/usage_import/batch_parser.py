"""The meter events of batches of rows: by columns if possible, else row by row."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar, cast

from msgspec.structs import replace as replace_fields

from ...domain.errors import DatabasePermissionDenied, LedgerCorrupted, LedgerUnavailable, TallybookError
from ...domain.meter_event_input import MeterEventInput
from .column_mapper import ColumnMapper, ColumnPlan
from .formats import Row, RowBatch
from .row_mapper import RowFormat, RowMapper, cell_at
from .row_names import RowNames

Item = TypeVar("Item")


class ParsedBatch(NamedTuple):
    """Rows with the meter event of each, or the error that it is rejected with.

    `valid` are the meter events without the errors, and `generated` the indexes of those whose identifier was
    generated.
    """

    batch: RowBatch
    meter_events: Sequence[MeterEventInput | Mapping[str, object] | TallybookError]
    valid: Sequence[object]
    generated: Collection[int] = ()


class BatchParser:
    """Parses the batches of one file, in their order: see `RowNames`."""

    def __init__(
        self, row_format: RowFormat, row_mapper: RowMapper, names: RowNames, columns: Sequence[str] | None
    ) -> None:
        self._columns = row_format.columns
        self._row_mapper = row_mapper
        self._column_mapper = ColumnMapper(row_format, row_mapper.keys_of, columns)
        self._names = names

    def plan(self, batch: RowBatch) -> ColumnPlan | None:
        """Return how to map a batch by columns; None if that isn't possible. May read meters from the ledger."""
        return self._column_mapper.plan(batch)

    def parse(self, batch: RowBatch, plan: ColumnPlan | None) -> ParsedBatch:
        """Return the meter event of each row, or the error that it is rejected with."""
        parsed_by_columns = self.parse_columns(batch, plan)
        if parsed_by_columns is not None:
            return parsed_by_columns
        parsed = list(map(self._parse_row, batch.rows))
        generated = {index for index, (_, is_generated) in enumerate(parsed) if is_generated}
        meter_events = [meter_event for meter_event, _ in parsed]
        valid = [event for event in meter_events if not isinstance(event, TallybookError)]
        return ParsedBatch(batch, meter_events, valid, generated)

    def parse_columns(self, batch: RowBatch, plan: ColumnPlan | None) -> ParsedBatch | None:
        """Return the meter event of each row; None if `parse` has to parse them row by row. Only computes."""
        meter_events = self._column_mapper.map(batch, plan)
        if meter_events is None:
            return None
        if meter_events[0].identifier is not None:
            return ParsedBatch(batch, meter_events, meter_events)
        named = [
            replace_fields(event, identifier=self._name(row, event.event_name))
            for row, event in zip(batch.rows, meter_events, strict=True)
        ]
        return ParsedBatch(batch, named, named, range(len(batch)))

    def skip(self, row: Row) -> None:
        """Count an earlier row without an identifier, so that later equal rows are further occurrences."""
        if row.error is None and cell_at(row.cells, self._columns.identifier_column) in (None, ""):
            self._parse_row(row)

    def _parse_row(self, row: Row) -> tuple[Mapping[str, object] | TallybookError, bool]:
        """Return the meter event of a row, or its error, and whether the identifier was generated."""
        if row.error is not None:
            return row.error, False
        try:
            meter_event = self._row_mapper.map(row.cells)
        except (LedgerCorrupted, LedgerUnavailable, DatabasePermissionDenied):
            raise  # nothing is wrong with the row
        except TallybookError as error:
            return error, False
        event_name = meter_event["event_name"]
        is_generated = meter_event["identifier"] is None and isinstance(event_name, str)
        if is_generated:
            meter_event["identifier"] = self._name(row, cast(str, event_name))
        return meter_event, is_generated

    def _name(self, row: Row, event_name: str) -> str:
        """Return an identifier for a row that has none."""
        return self._names.name(row.cells, event_name, cell_at(row.cells, self._columns.timestamp))


def with_next(items: Iterable[Item]) -> Iterator[tuple[Item, Item | None]]:
    """Yield each item with the next one, None after the last one.

    A TallybookError of `items` is raised where it would be without reading ahead: after the item before it. Others are
    raised at once: those of a callback end the import.
    """
    remaining = iter(items)
    item = next(remaining, None)
    while item is not None:
        following: Item | None = None
        error: TallybookError | None = None
        try:
            following = next(remaining, None)
        except TallybookError as raised:
            error = raised
        yield item, following
        if error is not None:
            raise error
        item = following
