"""The columns of a usage file: how a row becomes a meter event."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from ...domain.formulas import ValueType
from ..meter_views import MeterView
from .timestamps import TimestampFormat, parse_timestamp

PAYLOAD_PREFIX = "payload_"
_MAX_ZEROS = 100


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """Which columns of a row become which fields of a meter event. The defaults are Stripe's import templates.

    The payload has KEY with the value of each column `payload_KEY`, and of each column in `payload` under the key it is
    mapped to; empty cells are left out. The column `value`, and the column `customer` or the fixed `customer_name`, are
    stored under the keys of the meter's rules. `event_name` overrides the column `event_name` of all rows. If
    `identifier` is None, a column `identifier` is used if it exists; `identifier_prefix` is put before each.
    """

    event_name: str | None = None
    timestamp: str = "timestamp"
    identifier: str | None = None
    value: str | None = None
    customer: str | None = None
    customer_name: str | None = None
    payload: Mapping[str, str] = field(default_factory=dict[str, str])
    timestamp_format: TimestampFormat = TimestampFormat.AUTO
    identifier_prefix: str = ""

    @property
    def identifier_column(self) -> str:
        """The column that identifiers are read from, if it exists."""
        return self.identifier or "identifier"

    def required_columns(self, meter: MeterView | None) -> list[str]:
        """Return the columns that a file must have. `meter` is the meter of all rows, None if rows name their own.

        Columns of optional dimensions and of keys that only the meter's filter reads may be missing.
        """
        columns = (self.timestamp, self.identifier, self.value, self.customer, *self.payload)
        required = [column for column in columns if column is not None]
        if self.event_name is None:
            required.append("event_name")
        if meter is not None:
            value_keys = [] if meter.formula.rule.value_type is ValueType.OPTIONAL_NUMBER else [meter.value_key]
            keys = [meter.customer_key, *value_keys, *meter.dimension_keys]
            required += [PAYLOAD_PREFIX + key for key in keys if key not in self._named_keys(meter)]
        return required

    def parse_row(self, cells: Mapping[str, object], get_meter: Callable[[str], MeterView]) -> dict[str, object]:
        """Return the meter event of a row. Raises InvalidTimestamp, and the errors of `get_meter`."""
        event_name = self.event_name if self.event_name is not None else cells.get("event_name")
        payload = {
            column.removeprefix(PAYLOAD_PREFIX): _plain_number(cell)
            for column, cell in cells.items()
            if column.startswith(PAYLOAD_PREFIX) and not _is_empty(cell)
        }
        if isinstance(event_name, str):
            payload.update(self._named_payload(cells, event_name, get_meter))
        identifier = cells.get(self.identifier_column)
        if self.identifier_prefix and not _is_empty(identifier):
            identifier = f"{self.identifier_prefix}{identifier}"
        return {
            "event_name": event_name,
            "payload": payload,
            "identifier": None if _is_empty(identifier) else identifier,
            "timestamp": parse_timestamp(
                _plain_number(cells.get(self.timestamp)), self.timestamp, self.timestamp_format
            ),
        }

    def _named_payload(
        self, cells: Mapping[str, object], event_name: str, get_meter: Callable[[str], MeterView]
    ) -> dict[str, object]:
        payload: dict[str, object] = {key: cells.get(column) for column, key in self.payload.items()}
        if self.value is not None:
            payload[get_meter(event_name).value_key] = cells.get(self.value)
        if self.customer is not None:
            payload[get_meter(event_name).customer_key] = cells.get(self.customer)
        if self.customer_name is not None:
            payload[get_meter(event_name).customer_key] = self.customer_name
        return {key: _plain_number(cell) for key, cell in payload.items() if not _is_empty(cell)}

    def _named_keys(self, meter: MeterView) -> set[str]:
        keys = set(self.payload.values())
        if self.value is not None:
            keys.add(meter.value_key)
        if self.customer is not None or self.customer_name is not None:
            keys.add(meter.customer_key)
        return keys


def _is_empty(cell: object) -> bool:
    """Return whether a cell has no value. A CSV file can't distinguish empty text from no value."""
    return cell is None or cell == ""


def _plain_number(cell: object) -> object:
    """Return a number as plain decimal text with the same digits, and any other value unchanged."""
    if isinstance(cell, str) or not isinstance(cell, int | Decimal) or isinstance(cell, bool):
        return cell
    text = str(cell)
    if isinstance(cell, Decimal) and "E" in text and abs(cell.adjusted()) <= _MAX_ZEROS:
        return format(cell, "f")
    return text
