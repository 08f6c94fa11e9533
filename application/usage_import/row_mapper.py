"""How a row becomes a meter event: columns, numbers and timestamps of one import."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from ...domain.errors import InvalidParameter, InvalidRequest, NotFound, TallybookError
from ...domain.formulas import ValueType
from ...domain.timestamps import to_microseconds
from .cloud_events import add_customer, is_cloud_event
from .columns import ColumnMapping
from .formats import UnclearCell
from .json_rows import PAYLOAD_PREFIX, nested_value
from .timestamps import TimestampReader
from .values import NumberFormat, plain_number

if TYPE_CHECKING:  # a process that reads a file needs no meters
    from ...domain.rules import Rules
    from ...domain.rules_schedule import RulesSchedule

GetSchedule = Callable[[str], "RulesSchedule"]
KeysOf = Callable[[str], "MeterKeys"]
_MAX_CACHED_METERS = 1_000


@dataclass(frozen=True, slots=True)
class RowFormat:
    """The columns of a file, and how its numbers and timestamps are written."""

    columns: ColumnMapping = field(default_factory=ColumnMapping)
    numbers: NumberFormat = field(default_factory=NumberFormat)
    timestamps: TimestampReader = field(default_factory=TimestampReader)


class MeterKeys(NamedTuple):
    """The keys of a meter's payload: of the customer and of the value, whether that is a number, and its column."""

    customer: str
    value: str
    is_number: bool
    value_column: str


class _KeysChange(InvalidParameter):
    """The keys of a meter change on a date, so that those of a row depend on its time."""


class RowMapper:
    """Returns the meter event of each row of a file. `columns` are those of the file, None if each row has its own.

    Cells are stored under the keys that the meter has at the time of the row.
    """

    def __init__(self, row_format: RowFormat, get_schedule: GetSchedule, columns: Sequence[str] | None = None) -> None:
        self._mapping = row_format.columns
        self._identifier_column = row_format.columns.identifier_column
        self._numbers = row_format.numbers
        self._read_timestamp = row_format.timestamps.read
        self._is_clear = row_format.timestamps.is_clear
        self._get_schedule = get_schedule
        self._keys: dict[str, dict[int, MeterKeys] | TallybookError] = {}
        self._payload_columns = None if columns is None else payload_columns(columns)

    def map(self, cells: Mapping[str, object]) -> dict[str, object]:
        """Return the meter event of a row. Raises InvalidTimestamp, InvalidValue, and the errors of `get_schedule`."""
        mapping = self._mapping
        event_name = mapping.event_name if mapping.event_name is not None else cells.get("event_name")
        payload: dict[str, object] = {}
        for column, key in payload_columns(cells) if self._payload_columns is None else self._payload_columns:
            cell = cells[column]
            if cell is not None and cell != "":
                payload[key] = cell if type(cell) is str else plain_number(cell)
        for column, key in mapping.payload.items():
            _put(payload, key, cell_at(cells, column))
        timestamp = cells.get(mapping.timestamp)
        if type(timestamp) is not str:
            timestamp = plain_number(cell_at(cells, mapping.timestamp))
        if isinstance(event_name, str) and event_name:
            self._add_named(payload, cells, self._keys_at(event_name, timestamp))
        identifier = cells.get(self._identifier_column)
        if identifier is None:
            identifier = cell_at(cells, self._identifier_column)
        if identifier == "":
            identifier = None
        elif identifier is not None and mapping.identifier_prefix:
            identifier = f"{mapping.identifier_prefix}{identifier}"
        return {
            "event_name": event_name,
            "payload": payload,
            "identifier": identifier,
            "timestamp": self._read_timestamp(timestamp, mapping.timestamp),
        }

    def find_unclear(self, cells: Mapping[str, object]) -> list[TallybookError]:
        """Return the errors of the timestamp and the number of a row that another option of the import may resolve."""
        timestamp = cells.get(self._mapping.timestamp)
        checks = [] if type(timestamp) is str and self._is_clear(timestamp) else [self._check_timestamp]
        errors: list[TallybookError] = []
        for check in (*checks, self._check_number):
            try:
                check(cells)
            except (InvalidRequest, NotFound) as error:  # those of the row; not that the ledger is unavailable
                if isinstance(error, UnclearCell):
                    errors.append(error)
        return errors

    def _check_timestamp(self, cells: Mapping[str, object]) -> None:
        column = self._mapping.timestamp
        self._read_timestamp(plain_number(cell_at(cells, column)), column)

    def _check_number(self, cells: Mapping[str, object]) -> None:
        mapping = self._mapping
        event_name = mapping.event_name if mapping.event_name is not None else cells.get("event_name")
        if isinstance(event_name, str) and event_name:
            for keys in self._keys_from(event_name).values():
                value = cell_at(cells, keys.value_column) if keys.is_number else None
                if type(value) is str:
                    self._numbers.parse(value, keys.value)

    def _column_of(self, value_key: str) -> str:
        """Return the column that holds the value of a meter."""
        mapping = self._mapping
        if mapping.value is not None:
            return mapping.value
        return next((column for column, key in mapping.payload.items() if key == value_key), PAYLOAD_PREFIX + value_key)

    def _add_named(self, payload: dict[str, object], cells: Mapping[str, object], keys: MeterKeys) -> None:
        """Add the cells that are stored under the keys of the meter, and write its number in the plain form."""
        mapping = self._mapping
        if mapping.value is not None:
            _put(payload, keys.value, cell_at(cells, mapping.value))
        if mapping.customer is not None:
            _put(payload, keys.customer, cell_at(cells, mapping.customer))
        if mapping.customer_name is not None:
            _put(payload, keys.customer, mapping.customer_name)
        if keys.customer not in payload and is_cloud_event(cells):
            add_customer(payload, keys.customer, cells.get("subject"))
        value = payload.get(keys.value)
        if keys.is_number and type(value) is str:
            payload[keys.value] = self._numbers.parse(value, keys.value)

    def keys_of(self, event_name: str) -> MeterKeys:
        """Return the keys of a meter. Raises InvalidParameter if they change on a date, or those of `get_schedule`."""
        keys = self._keys_from(event_name)
        if len(keys) > 1:
            raise _KeysChange(f"The payload keys of {event_name!r} change on a date.", field="event_name")
        return next(iter(keys.values()))

    def _keys_at(self, event_name: str, timestamp: object) -> MeterKeys:
        """Return the keys that a meter has at the time of a row."""
        keys = self._keys_from(event_name)
        if len(keys) == 1:
            return next(iter(keys.values()))
        occurred_at = to_microseconds(self._read_timestamp(timestamp, self._mapping.timestamp))
        return keys[max(start for start in keys if start <= occurred_at)]

    def _keys_from(self, event_name: str) -> Mapping[int, MeterKeys]:
        """Return the keys of a meter by the time from which on it has them. Raises the errors of `get_schedule`."""
        keys = self._keys.get(event_name)
        if keys is None:
            try:
                parts = self._get_schedule(event_name).parts
            except (InvalidRequest, NotFound) as error:
                keys = error
            else:
                keys = {start: self._keys_under(rules) for start, _, rules in parts}
                if len(set(keys.values())) == 1:  # they don't depend on the time
                    keys = dict([next(iter(keys.items()))])
            if len(self._keys) < _MAX_CACHED_METERS:
                self._keys[event_name] = keys
        if isinstance(keys, TallybookError):
            raise keys.with_traceback(None)  # it would grow by the frames of each row
        return keys

    def _keys_under(self, rules: "Rules") -> MeterKeys:
        is_number = rules.formula.rule.value_type is not ValueType.TEXT
        return MeterKeys(rules.customer_key, rules.value_key, is_number, self._column_of(rules.value_key))


def cell_at(cells: Mapping[str, object], column: str) -> object:
    """Return the cell of a column, or the value at a path inside of objects; None if there is none."""
    cell = cells.get(column)
    return nested_value(cells, column) if cell is None and "." in column else cell


def payload_columns(columns: Iterable[str]) -> list[tuple[str, str]]:
    """Return the columns `payload_KEY` with their keys."""
    start = len(PAYLOAD_PREFIX)
    return [(column, column[start:]) for column in columns if column.startswith(PAYLOAD_PREFIX)]


def _put(payload: dict[str, object], key: str, cell: object) -> None:
    """Store a cell under a key; remove the key if the cell is empty."""
    if cell is None or cell == "":
        payload.pop(key, None)
    else:
        payload[key] = cell if type(cell) is str else plain_number(cell)
